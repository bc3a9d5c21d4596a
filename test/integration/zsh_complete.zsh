# zsh -f zsh_complete.zsh SCRIPT LINE WANTED: types LINE and Tab into a shell that has the completion SCRIPT; 0 once WANTED is shown.
zmodload zsh/zpty
script=$1 line=$2 wanted=$3
zpty shell zsh -f -i
zpty -w shell "PS1='> '; autoload -Uz compinit && compinit -u -D && . ${(q)script} && LISTMAX=1000 && print RE''ADY"
zpty -r shell output '*READY*' || exit 1
zpty -w -n shell "$line"$'\t\t'
zpty -r shell output "*$wanted*"
