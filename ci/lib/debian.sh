# Sourced after common.sh: packages of Debian that are only unpacked under target/, never installed: kernel
# sources, a QEMU and a Rust newer than the system's. A private apt keeps its lists under target/, so no root
# is needed and the system's own package lists stay as they are.
# shellcheck shell=bash

# Whose packages: of this machine, unless whoever sources this has named another architecture before.
: "${debian_architecture:=amd64}"
debian_apt=$target/setup/apt
[[ $debian_architecture == amd64 ]] || debian_apt+=-$debian_architecture
debian_debs=$target/setup/debs

# apt_private TOOL ARGUMENT...: apt-get or apt-cache on the private state. The configuration is named on the
# command line because only so it comes last, after whatever the system says.
apt_private() {
	local tool=$1
	shift
	"$tool" -c "$debian_apt/apt.conf" "$@"
}

# The mirror that this system gets Debian's main archive from.
debian_mirror() {
	local uri
	# shellcheck disable=SC2016 # apt's own variables, not the shell's
	uri=$(apt-get indextargets --format '$(ORIGIN)|$(LABEL)|$(CREATED_BY)|$(REPO_URI)' |
		sed -n 's/^Debian|Debian|Packages|//p' | head -n 1)
	if [[ -z $uri ]]; then
		# Lists were never loaded, so nothing says yet who a mirror is: take the first that names no security
		# archive.
		# shellcheck disable=SC2016
		uri=$(apt-get indextargets --format '$(CREATED_BY)|$(REPO_URI)' |
			sed -n 's/^Packages|//p' | grep -v security | head -n 1)
	fi
	[[ -n $uri ]] || fail "no Debian mirror in this system's apt sources: add one, then run apt-get update"
	printf '%s\n' "$uri"
}

# debian_update: package lists of Debian 12 (the kernel it ships) and of sid, renewed once a day.
debian_update() {
	local uri suite lists=$debian_apt/state/lists
	# The configuration names its own place, so a tree that was moved or copied begins anew.
	if [[ -f $debian_apt/updated && -n $(find "$debian_apt/updated" -mmin -1440) ]] &&
		grep -qF "\"$debian_apt/state\"" "$debian_apt/apt.conf"; then
		return
	fi
	uri=$(debian_mirror)
	mkdir -p "$lists/partial" "$debian_apt/cache/archives/partial" "$debian_debs"
	: >"$debian_apt/state/status" # as if nothing were installed: what the system has is of no use to what is unpacked
	printf 'deb %s %s main\n' "$uri" bookworm "$uri" sid >"$debian_apt/sources.list"
	# A mirror that stands still for a while is as good as any: its signature is checked, its age is not.
	cat >"$debian_apt/apt.conf" <<-END
		Dir::State "$debian_apt/state";
		Dir::State::status "$debian_apt/state/status";
		Dir::Cache "$debian_apt/cache";
		Dir::Cache::pkgcache "pkgcache.bin";
		Dir::Cache::srcpkgcache "srcpkgcache.bin";
		Dir::Etc::sourcelist "$debian_apt/sources.list";
		Dir::Etc::sourceparts "/dev/null";
		APT::Architecture "$debian_architecture";
		APT::Architectures { "$debian_architecture"; };
		APT::Sandbox::User "";
		Acquire::Check-Valid-Until "false";
		Acquire::Languages "none";
		Acquire::Retries "3";
		Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
	END
	if ! apt_private apt-get -q update; then
		for suite in bookworm sid; do
			[[ -n $(find "$lists" -name "*_${suite}_*_Packages" -print -quit) ]] ||
				fail "could not load the package lists of Debian $suite, see apt's own words above"
		done
		echo "could not renew Debian's package lists, going on with the ones from last time"
		return
	fi
	apt_private apt-cache gencaches
	touch "$debian_apt/updated"
}

# debian_version PACKAGE: the newest version on the mirror; nothing if there is none.
debian_version() {
	apt_private apt-cache policy "$1" | sed -n 's/^ *Candidate: //p'
}

# debian_closure PACKAGE...: these and every shared library they depend on, in turn. Only libraries: a program
# that is unpacked in a folder has no use for init systems, debconf or menus.
debian_closure() {
	local -A seen=()
	local fresh=("$@") package
	while ((${#fresh[@]} > 0)); do
		for package in "${fresh[@]}"; do
			seen[$package]=1
		done
		# Of alternatives (a leading |) the last named is taken, which is the real package where one is
		# virtual.
		mapfile -t fresh < <(apt_private apt-cache depends --important "${fresh[@]}" |
			sed -nE 's/^  (Pre)?Depends: ((lib|zlib)[^ <>]*).*/\2/p' | sort -u |
			while read -r package; do
				[[ -n ${seen[$package]:-} ]] || printf '%s\n' "$package"
			done)
	done
	printf '%s\n' "${!seen[@]}" | LC_ALL=C sort
}

# debian_download PACKAGE...: their newest versions, into target/setup/debs; prints the files, one a line.
# What is there is not downloaded again.
debian_download() {
	mkdir -p "$debian_debs"
	if ! (cd "$debian_debs" && apt_private apt-get -q download "$@" >&2); then
		# The usual reason: the mirror has a newer version since the lists were loaded, and no longer the one
		# they name.
		rm -f "$debian_apt/updated"
		debian_update >&2
		(cd "$debian_debs" && apt_private apt-get -q download "$@" >&2) || fail "could not download the Debian packages $*"
	fi
	# Asked from a folder without these files, because apt names only what it would still have to load.
	(cd / && apt_private apt-get -q --print-uris download "$@") |
		sed -n "s|^'[^']*' \\([^ ]*\\.deb\\) .*|$debian_debs/\\1|p"
}

# debian_unpack DIRECTORY PACKAGE...: downloads the packages and unpacks them into DIRECTORY.
debian_unpack() {
	local directory=$1 files deb
	shift
	files=$(debian_download "$@") || exit
	mkdir -p "$directory"
	while read -r deb; do
		dpkg-deb -x "$deb" "$directory" || fail "could not unpack $deb"
	done <<<"$files"
}
