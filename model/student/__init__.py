"""The vision-language model: prompt, tokens, images, backbone."""
