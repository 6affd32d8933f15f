
_vlajepa() {
  local command=$words[2] key
  local -a offered
  if (( CURRENT == 2 )); then
    for key in ${=_vlajepa_commands}; do offered+=("$key:$(_vlajepa_text $key)"); done
    _describe command offered
    compadd -- --help --version --completion
  elif [[ $command == --completion ]]; then
    compadd -- bash zsh
  elif [[ $PREFIX == *=* ]]; then
    key=${PREFIX%%=*}
    compset -P 1 '*='
    if _vlajepa_is_path $command $key; then
      compset -P '*[\[,]'
      _files
    else
      compadd -- ${=$(_vlajepa_values $command $key)}
    fi
  else
    compadd -S '' -- ${=$(_vlajepa_keys $command)}
    compadd -- --help
    if (( CURRENT == 3 )); then
      _vlajepa_is_path $command '' && _files
      compadd -- ${=$(_vlajepa_values $command '')}
    fi
  fi
}

if [[ ${funcstack[1]} == _vlajepa ]]; then _vlajepa "$@"; else compdef _vlajepa vlajepa; fi
