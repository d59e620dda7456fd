# What every part of the setup shares: saying what happens, making a thing once,
# and taking packages of another Debian suite without touching the system's own.

say() { printf '%s: %s\n' "${PART:-setup}" "$*" >&2; }
die() { say "$*"; exit 1; }

# once NAME VERSION COMMAND…: makes $RSRUN_CACHE/NAME unless it already stands in
# that version. COMMAND gets an empty directory and fills it; only a finished one
# is moved into place, so an interrupted setup leaves nothing half done behind.
# Two setups on one machine wait for each other instead of working twice.
once() {
    local name=$1 version=$2 place=$RSRUN_CACHE/$1 making
    shift 2
    mkdir -p "$(dirname "$place")" "$RSRUN_CACHE/.lock"
    (
        flock 9
        if [ "$(cat "$place/.version" 2>/dev/null)" = "$version" ]; then exit 0; fi
        making=$place.making
        rm -rf "$making" && mkdir -p "$making"
        say "making $name ($version)"
        "$@" "$making"
        printf '%s\n' "$version" > "$making/.version"
        rm -rf "$place" && mv "$making" "$place"
    ) 9> "$RSRUN_CACHE/.lock/$(printf '%s' "$name" | tr / _)"
}

# installed PACKAGE…: the ones of Debian's packages that are missing, installed.
installed() {
    local missing=() package
    for package; do
        if [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" != installed ]; then
            missing+=("$package")
        fi
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    [ "$(id -u)" = 0 ] || die "root is needed to install ${missing[*]}"
    say "installing ${missing[*]}"
    mkdir -p "$RSRUN_CACHE/.lock"
    (
        flock 9
        export DEBIAN_FRONTEND=noninteractive
        # The lists of a fresh machine are empty or too old to fetch by.
        apt-get -qq -o Acquire::Languages=none update || say "apt-get update failed; trying with the lists at hand"
        apt-get -qq -y -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 install --no-install-recommends "${missing[@]}" > "$RSRUN_CACHE/apt.log" 2>&1 < /dev/null ||
            { tail -20 "$RSRUN_CACHE/apt.log" >&2; die "installing ${missing[*]} failed"; }
    ) 9> "$RSRUN_CACHE/.lock/apt"
}

# unpacked SUITE DIRECTORY PACKAGE…: these packages of SUITE with everything that
# they depend on, unpacked below DIRECTORY. A private apt state with an empty
# package database resolves them: nothing is installed, no suite is mixed in.
unpacked() {
    local suite=$1 into=$2
    shift 2
    in_suite "$suite" fetch_closure "$into" "$@"
}

# unpacked_alone SUITE DIRECTORY PACKAGE…: the same without their dependencies.
unpacked_alone() {
    local suite=$1 into=$2
    shift 2
    in_suite "$suite" fetch_alone "$into" "$@"
}

# in_suite SUITE COMMAND…: COMMAND with apt looking at SUITE and nothing else, one
# at a time for each suite; its current directory is scratch space.
in_suite() {
    local suite=$1 apt=$RSRUN_CACHE/apt/$1
    shift
    mkdir -p "$RSRUN_CACHE/.lock"
    (
        flock 9
        mkdir -p "$apt/state/lists/partial" "$apt/cache/archives/partial" "$apt/scratch"
        : > "$apt/status"
        sources_of "$suite" > "$apt/sources.list"
        cat > "$apt/apt.conf" <<CONF
Dir::Etc::sourcelist "$apt/sources.list";
Dir::Etc::sourceparts "-";
Dir::State "$apt/state";
Dir::State::status "$apt/status";
Dir::Cache "$apt/cache";
Acquire::Languages "none";
// Signed all the same: the lists of a mirror that lags behind may have run out.
Acquire::Check-Valid-Until "false";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
APT::Sandbox::User "root";
CONF
        export APT_CONFIG=$apt/apt.conf
        cd "$apt/scratch"
        apt-get -qq update || die "the package lists of $suite could not be fetched"
        "$@"
        rm -rf "$apt/cache/archives/"*.deb "$apt/scratch"
    ) 9> "$RSRUN_CACHE/.lock/apt-$suite"
}

fetch_closure() {
    local into=$1 deb
    shift
    apt-get -qq -y --no-install-recommends --download-only install "$@" > /dev/null || die "fetching $* failed"
    for deb in "$(dirname "$APT_CONFIG")"/cache/archives/*.deb; do dpkg-deb -x "$deb" "$into"; done
}

fetch_alone() {
    local into=$1 deb
    shift
    apt-get -qq download "$@" || die "fetching $* failed"
    for deb in *.deb; do dpkg-deb -x "$deb" "$into"; done
}

# sources_of SUITE: one-line apt sources for SUITE, from the mirror and the keys
# that this machine itself uses, so that none is written here.
sources_of() {
    local suite=$1 mirror keys=/usr/share/keyrings/debian-archive-keyring.gpg
    # Which of these files exist differs, so cat may fail.
    mirror=$({ cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null || true; } | awk '
        # The first mirror that serves Debian itself: its path ends in /debian.
        { sub(/#.*/, "") }
        $1 == "deb" || $1 == "URIs:" {
            for (i = 2; i <= NF; i++) if (!found && $i ~ /^[a-z+]+:.*\/debian\/?$/) { print $i; found = 1 }
        }')
    [ -n "$mirror" ] || die "no Debian mirror in /etc/apt/sources.list or sources.list.d"
    echo "deb [signed-by=$keys] $mirror $suite main"
}

# borrow_libraries HOME FILE: FILE, made for a newer Debian, runs with the loader
# and the libraries that were unpacked with it and that will stand below HOME. No
# wrapper: that would be a process more in every measurement.
borrow_libraries() {
    patchelf --set-interpreter "$1/usr/lib64/ld-linux-x86-64.so.2" --set-rpath "$1/usr/lib/x86_64-linux-gnu" "$2"
}
