#!/bin/bash
# What the command line says about itself comes from one table: --help, the manual page and what three shells complete agree. And its
# complaints name what is wrong.
# timeout: 700
. "$(dirname "$0")/lib.sh"
need mandoc bash zsh fish jq qemu-img
vic() { "$VIC" "$@"; }

commands=$(vic --help | sed -n '/^Commands:/,/^$/s/^  \([a-z-]*\) .*/\1/p')
[ "$(wc -w <<<"$commands")" -ge 7 ] || fail "few commands: $commands"
options() { vic "$1" --help | sed -n 's/^ *\(-[a-zA-Z], \)\?--\([a-z-]*\).*/\2/p'; }

vic man >"$WORK/man.1"
mandoc -T lint -W error "$WORK/man.1"
mandoc -T utf8 -O width=200 "$WORK/man.1" | col -b >"$WORK/man.txt"
for shell in bash zsh fish; do vic completion $shell >"$WORK/$shell"; done
bash -n "$WORK/bash"
zsh -n "$WORK/zsh"
fish -n "$WORK/fish"

# complete SHELL WORD...: what is offered for the last word
complete_bash() {
	bash --norc -c '. "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _vm_import_controller; printf "%s\n" "${COMPREPLY[@]}"' \
		- "$WORK/bash" vm-import-controller "$@"
}
complete_fish() { fish --no-config -c "source $WORK/fish; complete -C'vm-import-controller $*'" | cut -f1; }
offers() { # offers WANTED WORD...: bash and fish
	local wanted=$1
	shift
	grep -qFx -- "$wanted" <(complete_bash "$@") || fail "bash does not offer $wanted for: $*"
	grep -qFx -- "$wanted" <(complete_fish "$*") || fail "fish does not offer $wanted for: $*"
}
for command in $commands; do
	offers "$command" "${command:0:2}"
	grep -q "vm-import-controller $command" "$WORK/man.txt" || fail "the manual page has no $command"
	for option in $(options "$command"); do
		offers "--$option" "$command" "--${option:0:3}"
		grep -qe "--$option" "$WORK/man.txt" || fail "the manual page has no --$option"
		grep -qF -- "--$option" "$WORK/zsh" || fail "zsh has no --$option"
	done
done
for format in VHD VHDX VDI QED Parallels; do
	vic convert --help | found -w "$format" || fail "convert --help does not say that $format is read"
	grep -qw "$format" "$WORK/man.txt" || fail "the manual page does not say that $format is read"
done
offers vmdk-stream convert --format ''
offers fish completion ''
mkdir "$WORK/there" && touch "$WORK/there/disk.vmdk"
assert_eq "files in bash" "$(cd "$WORK" && complete_bash convert there/d)" there/disk.vmdk
assert_eq "--name=value in bash" "$(complete_bash convert --format = r)" raw
shows() { timeout 180 zsh -f "$(dirname "$0")/zsh_complete.zsh" "$WORK/zsh" "$1" "$2" || fail "zsh does not show $2 for: $1"; }
summary=$(vic --help | sed -n 's/^  convert *//p')
shows 'vm-import-controller ' "${summary:0:24}"
shows 'vm-import-controller convert --format ' vmdk-stream
shows 'vm-import-controller run --str' streams
note "$(wc -w <<<"$commands") commands and their options in --help, the manual page, bash, zsh and fish"

complains() { # complains PART ARGUMENT...
	local part=$1 output status=0
	shift
	output=$(vic "$@" 2>&1 </dev/null) || status=$?
	assert_eq "status of $*" $status 2
	assert_contains "complaint about $*" "$output" "$part"
}
complains 'no command "runn"' runn
complains '--bogus is not understood' run --bogus
complains '--port takes a value' run --port
complains 'there is no option -x' run -x
complains '"65536" is no number' run --port=65536
complains 'unexpected argument "now"' run now
complains 'takes a number of bytes' verify --capacity=x a b
complains 'name an image and a digest' verify a
complains 'must be vmid2:' verify a b
complains 'takes raw, vmdk or qcow2' verify --format=vhd a vmid2:$(printf '0%.0s' {1..64})
complains 'is for raw disks' verify --format=qcow2 --capacity=1 a vmid2:$(printf '0%.0s' {1..64})
complains 'name an input and an output' convert --digest a
complains 'not written to standard output' convert a -
for end in vmdk VMDK vhdx vhd vdi qed; do complains 'only raw and qcow2 are written' convert a "b.$end"; done
complains 'takes a number of MiB' convert --resume=0 a b
complains 'takes vmdk-stream, vmdk, qcow2 or raw, not vhd' convert --format vhd a b
complains 'takes vmdk, qcow2 or raw, not vmdk-stream' inspect --format=vmdk-stream a
complains 'name the manifests' import -o out
complains 'name a shell' completion tcsh
complains 'go together' run --tls-key=a
complains 'no name of a namespace' support-bundle -n 'a/b'
note "complaints name what is wrong"

# What fails says what to do about it.
head -c 4M /dev/urandom >"$WORK/whole.raw"
qemu-img convert -f raw -O vmdk -o subformat=streamOptimized "$WORK/whole.raw" "$WORK/whole.vmdk"
head -c 2M "$WORK/whole.vmdk" >"$WORK/cut.vmdk"
: >"$WORK/empty.raw"
advises() { # advises PART COMMAND...
	local part=$1
	shift
	assert_fails 1 "$VIC" "$@" >"$WORK/said" 2>&1 </dev/null
	assert_eq "lines of $*" "$(grep -c '^vm-import-controller: ' "$WORK/said")" 1
	assert_contains "what $* says" "$(<"$WORK/said")" "$part"
}
advises 'before its end; copy it again from where it was made' convert -q "$WORK/cut.vmdk" "$WORK/out.raw"
advises 'copy it again from where it was made' inspect -q "$WORK/cut.vmdk"
advises 'copy it again from where it was made' verify -q "$WORK/cut.vmdk" "vmid2:$(printf '0%.0s' {1..64})"
advises 'is empty; copy it again' verify -q "$WORK/empty.raw" "vmid2:$(printf '0%.0s' {1..64})"
advises 'expected 512; correct --capacity' convert -q --capacity 512 "$WORK/whole.vmdk" "$WORK/out.raw"
advises 'by how it begins; leave --format away' convert -q --format qcow2 "$WORK/whole.raw" "$WORK/out.raw"
cat >"$WORK/import.yaml" <<-END2
	{apiVersion: $GROUP, kind: VirtualMachineImport, metadata: {name: web},
	 spec: {virtualMachineName: web, sourceCluster: {apiVersion: $GROUP, kind: OvaSource, name: files}}}
END2
advises 'named nobody; there are default/web' plan -f "$WORK/import.yaml" --vm nobody
advises 'make the one above it first' import -f "$WORK/import.yaml" -o "$WORK/not/there"
echo '{apiVersion: v1, kind: Secret, metadata: {name: s}}' >"$WORK/secret.yaml"
advises 'name the file that has one with -f' plan -f "$WORK/secret.yaml"
assert_fails 3 "$VIC" plan -f "$WORK/import.yaml" >"$WORK/said" 2>&1
assert_contains "a plan without its source" "$(<"$WORK/said")" "there is no OvaSource default/files; create it, or correct spec.sourceCluster"
note "what fails says what to do"

# On a terminal the progress is in units that show something.
rate='[0-9.]+ MiB, [0-9.]+ [KMG]iB/s'
: >"$WORK/said"
timeout 180 script -qec "{ head -c 3M /dev/zero; until grep -qE '$rate' '$WORK/said'; do sleep 0.2; head -c 64K /dev/zero; done; } |
	'$VIC' convert --format raw - '$WORK/out.raw'" /dev/null </dev/null >"$WORK/said" 2>&1 || fail "the progress of a small disk: $(cat -v "$WORK/said")"
note "progress"

# A conversion that is stopped leaves no half disk, or one that is gone on with.
mkfifo "$WORK/pipe"
exec 7<>"$WORK/pipe"
stopped() { # stopped SIGNAL OPTION...: of a disk of which 3 MiB came
	local signal=$1 pid
	shift
	"$VIC" convert --format raw -q "$@" - "$WORK/half.raw" <"$WORK/pipe" >"$WORK/said" 2>&1 &
	pid=$!
	background+=($pid)
	head -c 3M /dev/urandom >&7
	wait_for 60 test -s "$WORK/half.raw"
	kill -"$signal" $pid
	assert_fails 130 wait $pid
}
stopped INT
assert_contains "what is said of it" "$(<"$WORK/said")" "interrupted; $WORK/half.raw was not finished and is removed"
[ ! -e "$WORK/half.raw" ] || fail "half a disk is left"
stopped TERM --resume
assert_contains "what is said of it" "$(<"$WORK/said")" "the same command goes on"
[ -e "$WORK/half.raw" ] && [ -e "$WORK/half.raw.journal" ] || fail "what was written is not kept"
exec 7>&-
note "a conversion that is stopped"

assert_fails 1 timeout 60 "$VIC" convert -q - "$WORK/closed.raw" <&- 2>"$WORK/said"
assert_contains "a standard input that is closed" "$(<"$WORK/said")" "Bad file descriptor"
note "descriptors that are closed"

# The log: a line an event, key=value or JSON; its level is changed while the daemon runs.
cat >"$WORK/kubeconfig" <<-'END2'
	{apiVersion: v1, kind: Config, current-context: a, contexts: [{name: a, context: {cluster: a, user: a}}],
	 clusters: [{name: a, cluster: {server: "http://127.0.0.1:1"}}], users: [{name: a, user: {token: planted-secret}}]}
END2
port=$(free_port)
launch() { # launch VARIABLE=VALUE...
	: >"$DAEMON_LOG"
	mkdir -p "$SCRATCH"
	env "$@" "$VIC" run --kubeconfig "$WORK/kubeconfig" --scratch "$SCRATCH" --port "$port" </dev/null 2>"$DAEMON_LOG" &
	DAEMON_PID=$!
	wait_for 30 grep -q started "$DAEMON_LOG"
}
debug() { [ "$(grep -c 'level=debug' "$DAEMON_LOG")" -gt "${1:-0}" ]; }
launch DEBUG= LOG_FORMAT=
! debug || fail "it says more than asked for"
kill -USR1 "$DAEMON_PID"
wait_for 60 grep -q "the log's level is changed\" level=debug" "$DAEMON_LOG"
wait_for 60 debug
kill -USR2 "$DAEMON_PID"
wait_for 60 grep -q 'level="as at the start"' "$DAEMON_LOG"
stop_daemon
bad=$(grep -vcE '^time=[0-9T:.-]+Z level=(error|warning|info|debug) msg=("([^"\\]|\\.)*"|[^ ="]+)( [a-z_]+=("([^"\\]|\\.)*"|[^ ="]+))*$' "$DAEMON_LOG" || true)
assert_eq "lines that are not key=value" "$bad" 0
launch DEBUG=true LOG_FORMAT=json
wait_for 60 grep -q '"level":"debug"' "$DAEMON_LOG"
stop_daemon
assert_eq "lines without time, level and message" "$(jq -c 'select((.time and .level and .msg) | not)' "$DAEMON_LOG")" ''
! grep -q planted-secret "$DAEMON_LOG" || fail "the log has the token"
note "the log: key=value, JSON, levels by SIGUSR1 and SIGUSR2"
