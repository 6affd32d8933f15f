
_vlajepa_files() { # the files that begin with $1, folders with a slash; names are quoted as they would be typed
  local typed=$1 home= name
  case $typed in '~/'*) home=$HOME; typed=$HOME/${typed#'~/'} ;; esac
  compgen -f -- "$typed" | while IFS= read -r name; do
    [ -d "$name" ] && name=$name/
    if [ -n "$home" ]; then printf '~/%q\n' "${name#"$home"/}"; else printf '%q\n' "$name"; fi
  done
}

_vlajepa() {
  local line=${COMP_LINE:0:COMP_POINT} word key value before command=${COMP_WORDS[1]} place=$COMP_CWORD offered
  word=${line##*[[:space:]]}
  key=${word%%=*}
  before=
  if [ "$place" -eq 1 ]; then
    offered=$(compgen -W "$_vlajepa_commands --help --version --completion" -- "$word")
  elif [ "$command" = --completion ]; then
    offered=$(compgen -W "bash zsh" -- "$word")
  elif [ "$key" != "$word" ]; then
    value=${word#*=}
    before=$key=
    if _vlajepa_is_path "$command" "$key"; then
      case $value in '['*) before=$word; value=${value##*[\[,]}; before=${before%"$value"} ;; esac
      offered=$(_vlajepa_files "$value")
    else
      offered=$(compgen -W "$(_vlajepa_values "$command" "$key")" -- "$value")
    fi
  else
    offered=$(compgen -W "$(_vlajepa_keys "$command") --help" -- "$word")
    if [ "$place" -eq 2 ]; then
      if _vlajepa_is_path "$command" ""; then offered+=$'\n'$(_vlajepa_files "$word"); fi
      offered+=$'\n'$(compgen -W "$(_vlajepa_values "$command" "")" -- "$word")
    fi
  fi
  COMPREPLY=()
  while IFS= read -r word; do
    [ -n "$word" ] || continue
    word=$before$word
    case $COMP_WORDBREAKS in *=*) case $before in *=*) word=${word#*=} ;; esac ;; esac
    COMPREPLY+=("$word")
  done <<< "$offered"
  case ${COMPREPLY[0]} in *= | */) [ ${#COMPREPLY[@]} -eq 1 ] && compopt -o nospace 2> /dev/null ;; esac
  return 0
}
complete -F _vlajepa vlajepa
