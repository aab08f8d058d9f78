# Sourced by every script under ci/: where things are, how an error is told, when work may be skipped.
# shellcheck shell=bash

# The root of the repository and, below it, all that is made. Nothing is ever written outside of target/.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
target=$root/target

# fail WHAT...: says on stderr what was expected and found, what to do about it, and ends the script.
fail() {
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	exit 1
}

# result TEXT...: what `ci/setup` shows beside this part's name. Without `ci/setup` it is simply printed.
result() {
	if [[ -n ${SETUP_RESULT:-} ]]; then
		printf '%s' "$*" >"$SETUP_RESULT"
	else
		printf '%s\n' "$*"
	fi
}

# as_root COMMAND...: only for installing packages.
as_root() {
	if [[ $(id -u) == 0 ]]; then
		"$@"
	elif command -v sudo >/dev/null; then
		sudo "$@"
	else
		fail "'$*' needs root, and there is no sudo: run it as root once, then start again"
	fi
}

# version_at_least FOUND WANTED: compares as Debian does.
version_at_least() {
	dpkg --compare-versions "$1" ge "$2"
}

# hash_of FILE_OR_DIRECTORY... [-- WORD...]: one hash over names and contents, and over the words. The key by
# which a part knows that nothing it is made from has changed.
hash_of() {
	local paths=()
	while [[ $# -gt 0 && $1 != -- ]]; do
		paths+=("$1")
		shift
	done
	{
		((${#paths[@]} == 0)) || find "${paths[@]}" -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
		printf '%s\n' "$@"
	} | sed "s|$root/||" | sha256sum | cut -d' ' -f1
}

# is_made STAMP HASH: true if the part that wrote STAMP was made from inputs of that hash.
is_made() {
	[[ -f $1 && $(<"$1") == "$2" ]]
}

# run_ignored TEST VARIABLE=VALUE CARGO_OPTION...: runs one of the tests that are as long as a variable tells them to be, and
# shows what it prints as it goes. Fails if the test does, or if there is none of that name.
run_ignored() {
	local test=$1 length=$2 log=$target/ignored.log
	shift 2
	mkdir -p "$target"
	env "$length" cargo test --locked "$@" -- --ignored --exact --nocapture "$test" 2>&1 | tee "$log"
	grep -q '^test result: ok. 1 passed' "$log" || fail "expected a test called $test, found none"
}

# count_tests RESULT LOG...: how many tests ended so (passed, failed, ignored, filtered), by the line that each test program
# closes with.
count_tests() {
	local result=$1
	shift
	sed -nE "s/^test result: .* ([0-9]+) $result( out)?;.*/\1/p" "$@" | awk '{ sum += $1 } END { print sum + 0 }'
}
