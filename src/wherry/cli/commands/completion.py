"""`completion`: scripts that teach a shell to complete our command lines. They ask `__complete` at each key."""

from __future__ import annotations

import sys

from wherry.cli import program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.context import Context

BASH = r"""# bash completion for NAME
_NAME_complete() {
    local rest=${COMP_LINE:0:COMP_POINT} piece words=() current broken answer line files=
    for piece in "${COMP_WORDS[@]:0:COMP_CWORD+1}"; do  # bash breaks words at : and =
        if [[ $rest == [[:blank:]]* || ${#words[@]} -eq 0 ]]; then
            rest=${rest#"${rest%%[![:blank:]]*}"}
            words+=("")
        fi
        piece=${rest:0:${#piece}}  # what is behind the cursor does not count
        rest=${rest:${#piece}}
        words[${#words[@]}-1]+=$piece
    done
    current=${words[${#words[@]}-1]}
    [[ $piece == [:=] ]] && piece=
    broken=${current:0:${#current}-${#piece}}  # of the word, what bash does not replace
    COMPREPLY=()
    answer=$("${words[0]}" __complete "${words[@]:1}" 2>/dev/null) || return
    while IFS= read -r line; do
        case $line in
            :files) files=1 ;;
            "$broken"?*) line=${line#"$broken"} && COMPREPLY+=("${line%%$'\t'*}") ;;
        esac
    done <<<"$answer"
    if [[ -n $files ]]; then
        compopt -o default 2>/dev/null
    fi
}
complete -F _NAME_complete NAME
"""

ZSH = r"""#compdef NAME
# zsh completion for NAME
_NAME() {
    local line files=0
    local -a found
    while IFS= read -r line; do
        case $line in
            :files) files=1 ;;
            *$'\t'*) found+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}") ;;
            ?*) found+=("${line//:/\\:}") ;;
        esac
    done < <("${words[1]}" __complete "${(@)words[2,CURRENT]}" 2>/dev/null)
    (( $#found )) && _describe NAME found
    (( files )) && _files
}
if [[ ${funcstack[1]} == _NAME ]]; then
    _NAME "$@"
else
    compdef _NAME NAME
fi
"""

FISH = r"""# fish completion for NAME
function __NAME_complete
    set -l words (commandline -opc) (commandline -ct)
    set -l answer (NAME __complete $words[2..-1] 2>/dev/null)
    for line in $answer
        switch $line
            case ':files'
                __fish_complete_path (commandline -ct)
            case '*'
                echo $line
        end
    end
end
complete -c NAME -f -a '(__NAME_complete)'
"""


def _script(text: str) -> int:
    sys.stdout.write(text.replace("NAME", program.NAME))
    return 0


def bash(context: Context) -> int:
    return _script(BASH)


def zsh(context: Context) -> int:
    return _script(ZSH)


def fish(context: Context) -> int:
    return _script(FISH)
