#!/bin/sh
# Installs the real peers that the tests talk to (Debian packages, when root), and says which are missing.
set -u
PATH="$PATH:/usr/sbin:/sbin"
postgres() { ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1; }
tls_driver() { ls /usr/lib/*/rsyslog/lmnsd_"$1".so /usr/lib/rsyslog/lmnsd_"$1".so 2>/dev/null | grep -q .; }
missing() {
    command -v Orthanc >/dev/null 2>&1 || printf ' orthanc'
    [ -x /usr/bin/storescu ] || printf ' dcmtk'
    command -v dciodvfy >/dev/null 2>&1 || printf ' dicom3tools'
    postgres || printf ' postgresql'
    command -v rsyslogd >/dev/null 2>&1 || printf ' rsyslog'
    tls_driver ossl || printf ' rsyslog-openssl'
    tls_driver gtls || printf ' rsyslog-gnutls'
}
wanted=$(missing)
if [ -n "$wanted" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "Installing real peers for the tests:$wanted"
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $wanted; } \
        >/tmp/scanwarden-peers.$$ 2>&1 || tail -n 5 /tmp/scanwarden-peers.$$
    rm -f /tmp/scanwarden-peers.$$
    wanted=$(missing)
fi
if [ -n "$wanted" ]; then
    echo "Real peers that are missing, so that their tests are skipped:$wanted (apt-get install$wanted)"
else
    echo "Real peers: Orthanc, DCMTK, dicom3tools, PostgreSQL and rsyslog are here"
fi
