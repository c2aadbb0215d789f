#!/bin/sh
# Installs patroni-check from this archive. It asks nothing, and enables and starts nothing.
#   ./install.sh                  into /usr/local; once more, or from a newer archive, it upgrades
#   ./install.sh --uninstall      removes what it has installed; the settings and the holds stay
#   ./install.sh --purge          removes these, too
# PREFIX=/usr is another place, and DESTDIR=/some/root another root, as of make install: PREFIX=/opt/pc ./install.sh
# systemd reads units in /usr/local and /usr alone.
set -eu
umask 022
PREFIX=${PREFIX:-/usr/local}
DESTDIR=${DESTDIR-}
verb=${1:-install}
# What was installed: files, then directories that were not there before.
list=$PREFIX/share/patroni-check/installed
settings=/etc/default/patroni-check

say() { echo "patroni-check: $*"; }
fail() {
    say "$*" >&2
    exit 1
}

case $verb in
install | --uninstall | --purge) ;;
*)
    sed -n '2,/^set/s/^# *//p' "$0"
    [ "$verb" = --help ] && exit
    exit 2
    ;;
esac
[ $# -le 1 ] || fail "one word at most: see ./install.sh --help"
[ -n "$DESTDIR" ] || [ "$(id -u)" = 0 ] || fail "it needs root, or a DESTDIR="
has_systemd() { [ -z "$DESTDIR" ] && [ -d /run/systemd/system ]; }
of_the_list() { [ -e "$DESTDIR$list" ] && grep -qxF -- "$1" "$DESTDIR$list"; }
# A package has its own ways to be upgraded and removed.
for unit in /usr/lib/systemd/system/patroni-check.socket /lib/systemd/system/patroni-check.socket; do
    if [ -e "$DESTDIR$unit" ] && ! { [ "$PREFIX" = /usr ] && of_the_list /usr/lib/systemd/system/patroni-check.socket; }; then
        fail "there is $unit, of a package or of make install: remove that first"
    fi
done

# Directories as far as they are not there yet.
make_directory() {
    [ ! -d "$DESTDIR$1" ] || return 0
    case $1 in ?*/*) make_directory "${1%/*}" ;; esac
    mkdir "$DESTDIR$1"
    echo "$1/" >>"$work/directories"
}

# One file, whole or not at all, as a running program can't be overwritten.
put() {
    make_directory "${2%/*}"
    case $2 in
    */lib/systemd/system/*)
        # The same as of make install.
        case $PREFIX/ in /usr/*) more= ;; *) more="$PREFIX " ;; esac
        sed -e "s|/usr/bin/|$PREFIX/bin/|" -e "s|^BindReadOnlyPaths=/usr |BindReadOnlyPaths=$more/usr |" "$1" >"$DESTDIR$2.new"
        ;;
    *) cp "$1" "$DESTDIR$2.new" ;;
    esac
    if [ -x "$1" ]; then chmod 755 "$DESTDIR$2.new"; else chmod 644 "$DESTDIR$2.new"; fi
    mv -f "$DESTDIR$2.new" "$DESTDIR$2"
}

install_all() {
    files=$(cd "$(dirname "$0")" && pwd)/files
    [ -d "$files" ] || fail "there is no $files: install.sh is to be run in its archive"
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    : >"$work/directories"
    was_there=
    [ ! -e "$DESTDIR$list" ] || was_there=yes
    (cd "$files" && find . -type f | sort) | while read -r file; do
        file=${file#.}
        case $file in
        "$settings")
            [ -e "$DESTDIR$settings" ] || put "$files$file" "$settings"
            continue
            ;;
        /usr/*) to=$PREFIX${file#/usr} ;;
        *) to=$file ;;
        esac
        put "$files$file" "$to"
        echo "$to" >>"$work/installed"
    done
    make_directory "${list%/*}"
    echo "$list" >>"$work/installed"
    if [ -n "$was_there" ]; then
        # What an older one had and this one has not.
        grep -v '/$' "$DESTDIR$list" | while read -r old; do
            grep -qxF -- "$old" "$work/installed" || rm -f "$DESTDIR$old"
        done
        grep '/$' "$DESTDIR$list" >>"$work/directories" || :
    fi
    sort -ru "$work/directories" >>"$work/installed"
    cp "$work/installed" "$DESTDIR$list.new"
    mv -f "$DESTDIR$list.new" "$DESTDIR$list"
    if has_systemd; then
        # The root directory of one process for each check.
        systemd-tmpfiles --create "$PREFIX/lib/tmpfiles.d/patroni-check.conf" || :
        systemctl daemon-reload
        [ -z "$was_there" ] || "$PREFIX/lib/patroni-check/restart"
    fi
    say "installed in $DESTDIR$PREFIX, and not enabled. The settings are in $DESTDIR$settings. What comes next:"
    echo "    $PREFIX/bin/patroni-check explain                  # whether Patroni is where it is looked for"
    echo "    systemctl enable --now patroni-check.socket        # answers HAProxy's agent-check on port 5555"
}

# Ours that run, with the instances of templates, in one go: a check would start a service again whose socket is there.
stop_units() {
    units=$(systemctl list-units --all --plain --no-legend 'patroni-check*' | while read -r unit _; do
        ! of_the_list "$(systemctl show --property=FragmentPath "$unit" | cut -d = -f 2-)" || echo "$unit"
    done)
    # shellcheck disable=SC2086 # a list of names
    [ -z "$units" ] || systemctl stop $units
}
disable_units() {
    grep '/lib/systemd/system/' "$DESTDIR$list" | grep -v '/$' | while read -r unit; do
        systemctl ${DESTDIR:+"--root=$DESTDIR"} --quiet disable "${unit##*/}" 2>/dev/null || :
    done
}

remove_settings() {
    own=$DESTDIR/etc/patroni-check
    # Those of instances as well.
    rm -f "$DESTDIR$settings" "$own"/*.env "$own"/hold "$own"/hold.* "$own"/*/hold "$own"/*/hold.*
    rmdir "$own"/* "$own" 2>/dev/null || :
    # What the last processes have left.
    [ -n "$DESTDIR" ] || rm -rf /run/patroni-check /run/patroni-check-cluster* /run/private/patroni-check*
}

uninstall() {
    if [ ! -e "$DESTDIR$list" ]; then
        [ "$verb" != --purge ] || remove_settings
        say "nothing of it is installed in $DESTDIR$PREFIX"
        return 0
    fi
    ! has_systemd || stop_units
    ! command -v systemctl >/dev/null || disable_units
    [ "$verb" != --purge ] || remove_settings
    [ -n "$DESTDIR" ] || rm -rf /run/patroni-check.root
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    cp "$DESTDIR$list" "$work/installed"
    # Files, then the directories that they were in, the inner ones first.
    while read -r path; do
        case $path in
        */) [ ! -d "$DESTDIR$path" ] || rmdir "$DESTDIR$path" 2>/dev/null || : ;;
        *) rm -f "$DESTDIR$path" ;;
        esac
    done <"$work/installed"
    ! has_systemd || systemctl daemon-reload
    say "removed from $DESTDIR$PREFIX"
}

case $verb in
install) install_all ;;
*) uninstall ;;
esac
