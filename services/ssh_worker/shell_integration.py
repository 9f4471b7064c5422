"""Shell integration for machines that want it: the login shell marks its prompts, its commands and their ends (OSC 133, 633, 7).

`COMMAND` is run instead of the bare login shell, by that very shell (`$SHELL -c COMMAND`, as sshd does it), so it may hold
nothing that bash, zsh, fish and dash read in different ways: no single quote and no two backslashes in a row. It starts
bash, zsh or fish as it would have started, with the marks added, and any other shell as it is. Nothing stays on the machine:
bash reads its part from a pipe, fish from its arguments, and zsh from a directory that it removes before all else.
"""

from typing import Final

_BASH: Final = r"""
exec 3<&-
[ -r /etc/profile ] && . /etc/profile
for __vsay_file in ~/.bash_profile ~/.bash_login ~/.profile; do
    if [ -r "$__vsay_file" ]; then . "$__vsay_file"; break; fi
done
unset __vsay_file
logout() { exit "$@"; }
__vsay_status() {
    local status=$?
    [ -n "$__vsay_ran" ] && printf "\033]133;D;%s\007" "$status"
    __vsay_ran=
    printf "\033]7;file://%s%s\007" "$HOSTNAME" "${PWD//%/%25}"
    return "$status"
}
__vsay_prompt() {
    case $PS1 in *"]133;B"*) ;; *) PS1="\[\e]133;A\a\]$PS1\[\e]133;B\a\]" ;; esac
}
__vsay_any=x
PS0="${PS0-}\${__vsay_any:\$((__vsay_ran=1)):0}\e]133;C\a"
PROMPT_COMMAND="__vsay_status${PROMPT_COMMAND:+
$PROMPT_COMMAND}"
if ((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] >= 501)); then PROMPT_COMMAND+=(__vsay_prompt)
else PROMPT_COMMAND="$PROMPT_COMMAND
__vsay_prompt"; fi
"""

_ZSH: Final = r"""
command rm -rf -- "$ZDOTDIR"
if [[ -n "$VSAY_ZDOTDIR" ]]; then ZDOTDIR="$VSAY_ZDOTDIR"; else unset ZDOTDIR; fi
unset VSAY_ZDOTDIR
[[ -r "${ZDOTDIR:-$HOME}/.zshenv" ]] && . "${ZDOTDIR:-$HOME}/.zshenv"
if [[ -o interactive ]]; then
    __vsay_prompt=$(printf "%%{\033]133;A\007%%}")
    __vsay_prompt_end=$(printf "%%{\033]133;B\007%%}")
    __vsay_precmd() {
        local last=$?
        [[ -n "$__vsay_ran" ]] && printf "\033]133;D;%s\007" "$last"
        __vsay_ran=
        printf "\033]7;file://%s%s\007" "$HOST" "${PWD//\%/%25}"
        case "$PS1" in *"]133;B"*) ;; *) PS1="$__vsay_prompt$PS1$__vsay_prompt_end" ;; esac
    }
    __vsay_preexec() {
        local backslash=$(printf "\134") newline="
" text="$1"
        text="${text//$backslash/$backslash$backslash}"
        text="${text//$newline/${backslash}x0a}"
        text="${text//;/${backslash}x3b}"
        text="${text//[[:cntrl:]]/ }"
        __vsay_ran=1
        printf "\033]633;E;%s\007\033]133;C\007" "$text"
    }
    precmd_functions+=(__vsay_precmd)
    preexec_functions+=(__vsay_preexec)
fi
"""

_FISH: Final = r"""
function __vsay_preexec --on-event fish_preexec
    printf "\033]133;C;cmdline_url=%s\007" (string join -- "%0A" (string split \n -- "$argv[1]" | string escape --style=url))
end
function __vsay_postexec --on-event fish_postexec
    printf "\033]133;D;%s\007" $status
end
function __vsay_prompt --on-event fish_prompt
    printf "\033]7;file://%s%s\007\033]133;A\007" "$hostname" (string escape --style=url -- "$PWD")
end
"""

_SCRIPT: Final = f"""
case "${{SHELL##*/}}" in
bash) exec "$SHELL" --rcfile /dev/fd/3 3<<"VSAY_END"
{_BASH}
VSAY_END
;;
zsh)
directory=$(mktemp -d) || exec "$SHELL" -l
cat >"$directory/.zshenv" <<"VSAY_END"
{_ZSH}
VSAY_END
export VSAY_ZDOTDIR="${{ZDOTDIR-}}" ZDOTDIR="$directory"
exec "$SHELL" -l
;;
fish) exec "$SHELL" -l -C "$(cat <<"VSAY_END"
{_FISH}
VSAY_END
)"
;;
*) exec "$SHELL" -l ;;
esac
"""

COMMAND: Final = f"exec /bin/sh -c '{_SCRIPT}'"
