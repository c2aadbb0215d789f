#!/bin/sh
# Installs patroni-check from this archive. It asks nothing, and enables and starts nothing.
#   ./install.sh                  into /usr/local; once more, or from a newer archive, it upgrades
#   ./install.sh --uninstall      removes what it has installed; the settings and the holds stay
#   ./install.sh --purge          removes these, too
# PREFIX=/usr is another place, and DESTDIR=/some/root another root, as of make install: PREFIX=/opt/pc ./install.sh
# systemd reads units in /usr/local and /usr alone.
set -eu
umask 022
export LC_ALL=C
unset CDPATH
verb=${1:-install}

say() { echo "patroni-check: $*"; }
fail() {
    say "$*" >&2
    exit "${status:-1}"
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
# One spelling, of which nothing has a meaning for a shell, sed or systemd.
PREFIX=$(printf '%s/' "${PREFIX:-/usr/local}" | tr -s /)
case $PREFIX in / | [!/]* | *[!A-Za-z0-9._/+-]* | */./* | */../*)
    status=2
    fail "PREFIX= is to be a directory's path from / on, of letters, digits and ._+- alone, without . and .. in it"
    ;;
esac
PREFIX=${PREFIX%/}
DESTDIR=${DESTDIR-}
[ ! "$DESTDIR" -ef / ] || DESTDIR=
case $DESTDIR in '' | /*) ;; *) DESTDIR=$PWD/$DESTDIR ;; esac
[ -n "$DESTDIR" ] || [ "$(id -u)" = 0 ] || fail "it needs root, or a DESTDIR="

root=$DESTDIR$PREFIX
settings=/etc/default/patroni-check
# What was installed: files from PREFIX on, then directories that were not there before. All are of names without blanks.
list=share/patroni-check/installed
# One that was killed may have left it beside its place.
old=$(cat "$root/$list" "$root/$list".new.* 2>/dev/null | sort -u | tr '\n' ' ')
is_in() { case " $2 " in *" $1 "*) ;; *) return 1 ;; esac; }
is_there() { [ -e "$1" ] || [ -L "$1" ]; }
has_systemd() { [ -z "$DESTDIR" ] && [ -d /run/systemd/system ]; }

# What is a file, or a link wherever it leads.
remove() {
    for path in "$@"; do
        if [ -f "$path" ] || [ -L "$path" ]; then rm -f "$path"; fi
    done
}
remove_listed() {
    for listed in "$@"; do
        case $listed in
        */ | "$list") ;;
        /*) remove "$DESTDIR$listed" ;;
        *) remove "$root/$listed" ;;
        esac
    done
}
remove_directories() {
    for directory in $(printf '%s\n' "$@" | grep '/$' | sort -r); do
        rmdir "$DESTDIR$directory" 2>/dev/null || :
    done
}

# Adds the directories to $made that a file's directory needs.
directories_for() {
    [ ! -d "$DESTDIR$1" ] && ! is_in "$1/" "$made" || return 0
    case $1 in ?*/*) directories_for "${1%/*}" ;; esac
    made="$made $1/"
}

# The inner directories first.
write_list() {
    mkdir -p "$root/${list%/*}"
    printf '%s\n' "$@" | sort -ru >"$root/$list$new"
    mv -f "$root/$list$new" "$root/$list"
}

# A copy beside the place that it is for.
stage() {
    case $2 in
    */lib/systemd/system/* | */doc/patroni-check/examples/*)
        # The same as of make install.
        case $PREFIX/ in /usr/*) more= ;; *) more="$PREFIX " ;; esac
        sed -e "s|/usr/bin/patroni-check|$PREFIX/bin/patroni-check|" \
            -e "s|^BindReadOnlyPaths=/usr |BindReadOnlyPaths=$more/usr |" "$1" >"$2$new"
        ;;
    *) cp "$1" "$2$new" ;;
    esac
    case $2 in
    */bin/* | */lib/patroni-check/restart) chmod 755 "$2$new" ;;
    *) chmod 644 "$2$new" ;;
    esac
}

install_all() {
    from=$(cd "$(dirname "$0")" && pwd)/files
    [ -d "$from/usr" ] || fail "there is no $from: install.sh is to be run in its archive"
    files=$(cd "$from/usr" && find . -type f | sed 's|^\./||' | sort | tr '\n' ' ')

    # A package has its own ways to be upgraded and removed.
    for unit in /usr/lib/systemd/system/patroni-check.socket /lib/systemd/system/patroni-check.socket; do
        ! is_there "$DESTDIR$unit" || [ "$DESTDIR$unit" -ef "$root/lib/systemd/system/patroni-check.socket" ] ||
            fail "there is $unit, of a package or of make install: remove that first"
    done
    others=
    for file in $files; do
        is_there "$root/$file" || continue
        is_in "$file" "$old" && [ ! -d "$root/$file" ] || others="$others $PREFIX/$file"
    done
    [ -z "$others" ] || fail "this is there, of a package, of make install or somebody's own: remove it first:$others"

    new=.new.$$
    made=
    staged=
    for file in $files "$list"; do
        directories_for "$PREFIX/${file%/*}"
        staged="$staged $file$new"
    done
    if ! is_there "$DESTDIR$settings"; then
        directories_for "${settings%/*}"
        staged="$staged $settings$new"
    fi

    # Whatever ends this before its end: the list has all that may be there then, for the next time.
    # shellcheck disable=SC2064,SC2086 # lists of names, as they are now
    trap "remove_listed $staged; remove_directories $made" EXIT
    trap 'exit 1' HUP INT TERM
    # shellcheck disable=SC2086 # lists of names
    write_list $old $files "$list" $staged $made
    for directory in $made; do
        mkdir -p "$DESTDIR$directory"
    done
    for file in $files; do
        stage "$from/usr/$file" "$root/$file"
    done
    is_there "$DESTDIR$settings" || stage "$from$settings" "$DESTDIR$settings"
    # What an older one had and this one has not.
    for file in $old; do
        is_in "$file" "$files" || remove_listed "$file"
    done
    # A running program can't be overwritten, but replaced.
    for file in $files; do
        mv -f "$root/$file$new" "$root/$file"
    done
    is_there "$DESTDIR$settings" || mv -f "$DESTDIR$settings$new" "$DESTDIR$settings"
    # shellcheck disable=SC2046,SC2086 # lists of names
    write_list $files "$list" $made $(printf '%s\n' $old | grep '/$')

    if has_systemd; then
        # The root directory of one process for each check.
        systemd-tmpfiles --create "$PREFIX/lib/tmpfiles.d/patroni-check.conf" || :
        systemctl daemon-reload
        [ -z "$old" ] || "$PREFIX/lib/patroni-check/restart"
    fi
    say "installed in $root, and not enabled. The settings are in $DESTDIR$settings. What comes next:"
    echo "    $PREFIX/bin/patroni-check explain                  # whether Patroni is where it is looked for"
    echo "    systemctl enable --now patroni-check.socket        # answers HAProxy's agent-check on port 5555"
}

# The program of another installation: where packages and make install have it, or where units have it from.
another() {
    own=
    ! is_in bin/patroni-check "$old" || own=$root/bin/patroni-check
    started=$(for directory in /etc /usr/local/lib /usr/lib /lib; do
        cat "$DESTDIR$directory"/systemd/system/patroni-check*.service 2>/dev/null || :
    done | sed -n 's|^ExecStart=[^/]*\(/[^ ]*/patroni-check\).*|\1|p')
    for program in /usr/bin/patroni-check /usr/local/bin/patroni-check $(command -v patroni-check) $started; do
        [ ! -f "$DESTDIR$program" ] || [ "$DESTDIR$program" -ef "$own" ] || {
            echo "$program"
            return
        }
    done
}

# In one go, with the instances of templates: a check would start a service again whose socket is there. With those of the
# administrator's own that are started with this program, unless there is another.
stop_units() {
    units=$(systemctl list-units --all --plain --no-legend 'patroni-check*.socket' patroni-check.service \
        'patroni-check*@*.service' | while read -r unit _; do
        fragment=$(systemctl show --property=FragmentPath "$unit" | cut -d = -f 2-)
        [ -n "$other" ] && ! [ "$fragment" -ef "$root/lib/systemd/system/${fragment##*/}" ] || echo "$unit"
    done)
    # One for a check may have ended meanwhile.
    # shellcheck disable=SC2086 # a list of names
    [ -z "$units" ] || systemctl stop $units || :
}

# What systemctl enable has made, but by what it leads to: another installation has the same names.
disable_units() {
    for link in "$DESTDIR"/etc/systemd/system/*/patroni-check* "$DESTDIR"/etc/systemd/system/patroni-check*; do
        [ -L "$link" ] || continue
        unit=$(readlink "$link")
        [ "$DESTDIR$unit" -ef "$root/lib/systemd/system/${unit##*/}" ] || continue
        rm -f "$link"
        case $link in */*.wants/*) rmdir "${link%/*}" 2>/dev/null || : ;; esac
    done
}

remove_settings() {
    own=$DESTDIR/etc/patroni-check
    # Those of instances as well.
    remove "$DESTDIR$settings" "$own"/*.env "$own"/hold "$own"/hold.* "$own"/*/hold "$own"/*/hold.*
    rmdir "$own"/* "$own" 2>/dev/null || :
    # What the last processes have left.
    [ -n "$DESTDIR" ] || rm -rf /run/patroni-check /run/patroni-check-cluster* /run/private/patroni-check*
}

uninstall() {
    other=$(another)
    if [ -n "$old" ]; then
        ! has_systemd || stop_units
        disable_units
    fi
    if [ "$verb" = --purge ]; then
        if [ -z "$other" ]; then
            remove_settings
        elif [ -n "$old" ]; then
            say "the settings and the holds stay, as there is $other, too"
        else
            fail "nothing of it is installed in $root, and the settings and the holds are those of $other"
        fi
    fi
    if [ -z "$old" ]; then
        say "nothing of it is installed in $root"
        return
    fi
    [ -n "$DESTDIR$other" ] || rm -rf /run/patroni-check.root
    # shellcheck disable=SC2086 # a list of names
    remove_listed $old
    rm -f "$root/$list" "$root/$list".new.*
    # shellcheck disable=SC2086
    remove_directories $old
    ! has_systemd || systemctl daemon-reload
    say "removed from $root"
}

case $verb in
install) install_all ;;
*) uninstall ;;
esac
