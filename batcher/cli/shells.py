"""Completion in bash, zsh and fish: the scripts that a shell reads, and the answers to what they ask.

In: the words on the command line so far, by environment variables. Out: lines of `kind⇥value⇥help` on stdout: `plain`
values, or `yaml`, `file`, `dir` where the shell completes names of files itself. Called by `main` when a shell asks, and by
`batcher completion`. It never asks the network, and nothing is ever said on stderr: that would stand in the prompt.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import Any, ClassVar, Final, NoReturn

import click
from click.shell_completion import CompletionItem, ShellComplete, add_completion_class, get_completion_class, split_arg_string

ASKED: Final = "_BATCHER_COMPLETE"
LONGEST_S: Final = 3.0  # a person waits at the prompt: then no answer is the better one

_BASH: Final = r"""
_batcher_completion() {
    local IFS=$'\n' kind value help cur=${COMP_WORDS[COMP_CWORD]}
    COMPREPLY=()
    while IFS=$'\t' read -r kind value help; do
        case $kind in
            yaml)
                compopt -o filenames 2>/dev/null
                COMPREPLY+=($(set -f; compgen -f -X '!*.yaml' -- "$value"; compgen -f -X '!*.yml' -- "$value"
                              compgen -d -- "$value"))
                [[ ${#COMPREPLY[@]} -gt 0 ]] || compopt -o default 2>/dev/null ;;
            dir) compopt -o dirnames 2>/dev/null ;;
            file) compopt -o default 2>/dev/null ;;
            plain)
                [[ $cur == [\'\"]* ]] || printf -v value %%q "$value"
                COMPREPLY+=("$value") ;;
        esac
    done < <(COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD %(complete_var)s=bash_complete "${1/#\~/$HOME}" 2>/dev/null)
}
complete -o nosort -F _batcher_completion %(prog_name)s
"""

_ZSH: Final = r"""#compdef %(prog_name)s
_batcher_completion() {
    local line kind value help
    local -a plain described
    while IFS=$'\t' read -r kind value help; do
        case $kind in
            yaml) _files -g '*.(yaml|yml)' ;;
            dir) _files -/ ;;
            file) _files ;;
            plain) if [[ -n $help ]]; then described+=("${value//:/\\:}:$help"); else plain+=("$value"); fi ;;
        esac
    done < <(COMP_WORDS="${(j:
:)words}" COMP_CWORD=$((CURRENT-1)) %(complete_var)s=zsh_complete ${words[1]/#\~/$HOME} 2>/dev/null)
    (( ${#described} )) && _describe -V 'batcher' described
    (( ${#plain} )) && compadd -V batcher -a plain
    return 0
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _batcher_completion "$@"
else
    compdef _batcher_completion %(prog_name)s
fi
"""

_FISH: Final = r"""function _batcher_completion
    for line in (env COMP_WORDS=(commandline -cp | string collect) COMP_CWORD=(commandline -ct | string collect) \
            %(complete_var)s=fish_complete %(prog_name)s 2>/dev/null)
        set -l parts (string split -m 2 \t -- $line)
        switch $parts[1]
            case yaml
                __fish_complete_suffix .yaml .yml
            case dir
                __fish_complete_directories $parts[2]
            case file
                __fish_complete_path $parts[2]
            case plain
                if test -n "$parts[3]"
                    printf '%%s\t%%s\n' $parts[2] $parts[3]
                else
                    printf '%%s\n' $parts[2]
                end
        end
    end
end
complete --no-files --command %(prog_name)s --arguments '(_batcher_completion)'
"""


class _Shell(ShellComplete):
    def get_completion_args(self) -> tuple[list[str], str]:
        """The complete words after the command, and the one under the cursor."""
        words = split_arg_string(os.environ["COMP_WORDS"])
        at = int(os.environ["COMP_CWORD"])
        return words[1:at], words[at] if at < len(words) else ""

    def format_completion(self, item: CompletionItem[Any]) -> str:
        value = str(item.value)
        if "\t" in value or "\n" in value:
            return "none"
        return f"{item.type}\t{value}\t{' '.join((item.help or '').split())}"


class _Bash(_Shell):
    name: ClassVar[str] = "bash"
    source_template: ClassVar[str] = _BASH

    _before = ""  # what bash takes for words of their own, although it belongs to the one under the cursor

    def get_completion_args(self) -> tuple[list[str], str]:
        """Bash breaks words at `=` and `:`. `--only = x` is put together for click, `a : b` for us."""
        words, incomplete = super().get_completion_args()
        if incomplete in ("=", ":"):
            words, incomplete = [*words, incomplete], ""
        while len(words) >= 2 and words[-1] == ":":
            self._before = f"{words[-2]}:{self._before}"
            words = words[:-2]
        if words and words[-1] == "=":
            words = words[:-1]
        return words, self._before + incomplete

    def format_completion(self, item: CompletionItem[Any]) -> str:
        item.value = str(item.value).removeprefix(self._before)
        return super().format_completion(item)


class _Zsh(_Shell):
    name: ClassVar[str] = "zsh"
    source_template: ClassVar[str] = _ZSH


class _Fish(_Shell):
    name: ClassVar[str] = "fish"
    source_template: ClassVar[str] = _FISH

    def get_completion_args(self) -> tuple[list[str], str]:
        """Fish gives the words up to the cursor, and the one under it as text."""
        words = split_arg_string(os.environ["COMP_WORDS"])[1:]
        incomplete = " ".join(split_arg_string(os.environ["COMP_CWORD"])[:1])
        if incomplete and words and words[-1] == incomplete:
            words.pop()
        return words, incomplete


SHELLS: Final = (_Bash.name, _Zsh.name, _Fish.name)
for _class in (_Bash, _Zsh, _Fish):
    add_completion_class(_class)


def script(cli: click.Command, shell: str) -> str:
    """What the shell is to read."""
    found = get_completion_class(shell)
    assert found is not None
    return found(cli, {}, "batcher", ASKED).source().lstrip("\n")


def answer(cli: click.Command) -> NoReturn:
    """Answer the shell that asks, and end."""
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    timer = threading.Timer(LONGEST_S, os._exit, (0,))
    timer.daemon = True
    timer.start()
    try:
        shell, _, what = os.environ[ASKED].partition("_")
        found = get_completion_class(shell)
        if found is not None and what in ("complete", "source"):
            asked = found(cli, {}, "batcher", ASKED)
            print(asked.complete() if what == "complete" else asked.source(), flush=True)
    except BaseException:  # whatever it is, the prompt is no place for it
        os._exit(0)
    sys.stdout.flush()
    os._exit(0)  # a thread may still be reading a manifest
