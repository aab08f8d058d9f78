# Sourced after common.sh: a Debian that systemd runs in as process 1, on this kernel, in namespaces of its own. Nothing of
# it is left when it ends, and it ends with the script that has started it. Takes root.
# shellcheck shell=bash

# machine_start FOLDER: starts the Debian in FOLDER, which stays as it is: what is written goes to memory. Returns when it
# is up.
machine_start() {
	local groups
	[[ $(id -u) == 0 ]] || fail "expected to be root, who can have a process 1 of its own, found $(id -un)"
	groups=$(findmnt --noheadings --first-only --output TARGET --types cgroup2) ||
		fail "expected a cgroup2 file system, by which systemd keeps its services apart, found none"
	machine_group=$groups$(sed -n 's/^0:://p' /proc/self/cgroup)/machine-$$
	mkdir "$machine_group" || fail "cannot make a control group for the machine"
	trap machine_end EXIT
	(
		echo "$BASHPID" >"$machine_group/cgroup.procs"
		exec setpriv --pdeathsig KILL unshare --fork --kill-child --pid --mount --uts --ipc --net --cgroup \
			"$root/ci/lib/machine-init" "$1"
	) </dev/null &
	machine=$!
	until machine_first=$(<"/proc/$machine/task/$machine/children") && [[ -n $machine_first ]] &&
		[[ $(<"/proc/${machine_first% }/comm") == systemd ]]; do
		kill -0 "$machine" 2>/dev/null || fail "the machine has not started, see the lines above"
		sleep 0.05
	done
	machine_first=${machine_first% }
	until in_machine test -S /run/systemd/private; do
		kill -0 "$machine" 2>/dev/null || fail "the machine has ended while it started"
		sleep 0.05
	done
	# Its state does not matter: what may be missing in a machine without hardware is nothing that a service needs.
	in_machine systemctl is-system-running --wait >/dev/null || true
}

# in_machine COMMAND...: runs a command there.
in_machine() {
	nsenter --target "$machine_first" --mount --pid --uts --ipc --net --cgroup --root --wd \
		env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive "$@"
}

machine_end() {
	# By the one signal that unshare does not keep from itself; its process 1 ends with it.
	kill -KILL "$machine" 2>/dev/null || true
	wait "$machine" 2>/dev/null || true
	# Its groups are empty as soon as the kernel has cleared the processes away.
	local tries=0
	until [[ ! -d $machine_group ]] || find "$machine_group" -depth -type d -exec rmdir {} + 2>/dev/null; do
		((++tries < 100)) || fail "cannot remove the control group $machine_group"
		sleep 0.05
	done
}
