"""`completion`: scripts that teach a shell to complete our command lines. They ask `__complete` at each key."""

from __future__ import annotations

import sys

from wherry.cli import program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.context import Context

BASH = r"""# bash completion for NAME
_NAME_complete() {
    local current words answer line files=
    COMPREPLY=()
    words=("${COMP_WORDS[@]:1:COMP_CWORD}")
    if declare -F _get_comp_words_by_ref >/dev/null; then
        local cword
        _get_comp_words_by_ref -n =: -w words -i cword
        words=("${words[@]:1:cword}")
    fi
    current=${words[${#words[@]}-1]}
    answer=$("${COMP_WORDS[0]}" __complete "${words[@]}" 2>/dev/null) || return
    while IFS= read -r line; do
        case $line in
            :files) files=1 ;;
            ?*) COMPREPLY+=("${line%%$'\t'*}") ;;
        esac
    done <<<"$answer"
    if [[ -n $files ]]; then
        compopt -o default 2>/dev/null
    fi
    if declare -F __ltrim_colon_completions >/dev/null; then
        __ltrim_colon_completions "$current"
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
