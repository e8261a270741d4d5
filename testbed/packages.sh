#!/usr/bin/env bash
# Installs the Debian packages that the tests and the demo use, where they are missing.
#
# Needs root; where sudo is there, it is used. No service of an installed package is started: a policy-rc.d
# that forbids it is put in place for the time of the installation, and what was there before is restored.
set -euo pipefail

packages=(
  knot              # authoritative DNS: the root and the tenants' zones
  knot-dnsutils     # kdig
  bind9-dnsutils    # dig and delv
  nsd               # a secondary of a third make
  dnsperf           # load for the embedded DNS server
  unbound           # recursive DNS
  bind9             # authoritative DNS of another make: other faults, other answers
  pdns-server       # PowerDNS: serves what others refuse to load
  pdns-backend-bind # PowerDNS's zones from files
  pdns-backend-sqlite3 # PowerDNS's zones in a database, which takes dynamic updates
  sqlite3           # makes that database
  tinydns           # djbdns: serves a TXT beside a CNAME
  python3-dkim      # verifies signatures (dkimpy)
  python3-nacl      # lets dkimpy verify Ed25519
  python3-dnspython # used by dkimpy
  libmail-dkim-perl # verifies signatures (Mail::DKIM)
  libnet-dns-perl   # used by Mail::DKIM
  postfix           # mail through a server, and smtp-sink to take it
  opendkim          # signs with the files kept by sync; verifies (OpenDKIM)
  rspamd            # signs with the files kept by sync; verifies (rspamd)
  dkimpy-milter     # signs with the files kept by sync
  miltertest        # speaks the milter protocol as an MTA
  libfaketime       # winds the clock of a running process
  libidn12          # used by Exim, which is unpacked beside Postfix: Debian installs one mail server only
  libwrap0          # used by Sendmail, which is unpacked likewise
  m4                # makes Sendmail's configuration
  shellcheck        # checks the scripts
)

say() { printf '%s\n' "$*" >&2; }

missing=()
for package in "${packages[@]}"; do
  # shellcheck disable=SC2016 # ${Status} is dpkg-query's own syntax
  status=$(dpkg-query -W -f='${Status}' "$package" 2>/dev/null || true)
  if [[ $status != 'install ok installed' ]]; then missing+=("$package"); fi
done
# These cannot be installed beside Postfix, but they run beside it: unpacked, Exim with a user of its own.
unpacked=/var/lib/dkim-testbed
exim=$unpacked/exim
sendmail=$unpacked/sendmail
if [[ ! -x $exim/usr/sbin/exim4 ]] || ! getent passwd Debian-exim >/dev/null; then unpack_exim=yes; fi
if [[ ! -x $sendmail/usr/libexec/sendmail/sendmail || ! -e $sendmail/usr/share/sendmail/cf/m4/cf.m4 ]]; then
  unpack_sendmail=yes
fi
if ((${#missing[@]} == 0)) && [[ -z ${unpack_exim-}${unpack_sendmail-} ]]; then exit 0; fi

if ((EUID != 0)); then
  if command -v sudo >/dev/null; then
    say "using sudo to install: ${missing[*]}"
    exec sudo -- "$(readlink -f "${BASH_SOURCE[0]}")" "$@"
  fi
  say "root is needed to install: ${missing[*]}"
  say "run this script as root, or: apt-get install --no-install-recommends ${missing[*]}"
  exit 1
fi

exec 9>/run/lock/dkim-operator-packages.lock
flock 9

policy=/usr/sbin/policy-rc.d
saved=
placed=
restore() {
  if [[ -n $saved ]]; then
    mv -f "$saved" "$policy"
  elif [[ -n $placed ]]; then
    rm -f "$policy"
  fi
  saved=
  placed=
}
trap restore EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

if [[ -e $policy || -L $policy ]]; then
  kept=$(mktemp "$policy.before.XXXXXX")
  mv -f "$policy" "$kept"
  saved=$kept
fi
placed=yes
printf '#!/bin/sh\nexit 101\n' >"$policy"
chmod 755 "$policy"

install_missing() {
  DEBIAN_FRONTEND=noninteractive apt-get -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 -y \
    --no-install-recommends install "${missing[@]}" >&2
}

if ((${#missing[@]})); then
  say "[1/3] installing ${#missing[@]} packages: ${missing[*]} (usually less than a minute)"
  if ! install_missing; then
    say "[2/3] that failed: fetching the package lists, then trying once more"
    apt-get -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 update >&2
    install_missing
  fi
  say "[3/3] installed after $SECONDS s; no service was started"
fi

# Fetches packages and unpacks them into a directory; none of their scripts is run.
unpack() {
  local into=$1 work
  shift
  say "unpacking $* into $into"
  work=$(mktemp -d)
  (cd "$work" && apt-get download "$@" >&2) ||
    (apt-get -o DPkg::Lock::Timeout=300 update >&2 && cd "$work" && apt-get download "$@" >&2)
  mkdir -p "$into"
  for file in "$work"/*.deb; do dpkg-deb --extract "$file" "$into"; done
  rm -rf "$work"
}

if [[ -n ${unpack_exim-} ]]; then
  getent passwd Debian-exim >/dev/null || useradd --system --user-group --badname --home-dir /var/spool/exim4 \
    --no-create-home --shell /usr/sbin/nologin Debian-exim
  unpack "$exim" exim4-daemon-light
fi
if [[ -n ${unpack_sendmail-} ]]; then unpack "$sendmail" sendmail-cf sendmail-bin; fi
