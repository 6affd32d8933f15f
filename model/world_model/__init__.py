"""The predictor of future latents."""
