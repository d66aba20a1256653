#!/bin/sh
# Installs what `make viewers` needs beside the tests' peers (Debian packages, when root), and says what is missing.
set -u
missing() {
    [ -e /usr/share/orthanc/plugins/libOrthancDicomWeb.so ] || printf ' orthanc-dicomweb'
    [ -e /usr/share/orthanc/plugins/libOrthancWebViewer.so ] || printf ' orthanc-webviewer'
    [ -x /usr/bin/chromium ] || printf ' chromium'
    command -v npm >/dev/null 2>&1 || printf ' npm'
}
wanted=$(missing)
if [ -n "$wanted" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "Installing viewers and what shows them:$wanted"
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $wanted; } \
        >/tmp/scanwarden-viewers.$$ 2>&1 || tail -n 5 /tmp/scanwarden-viewers.$$
    rm -f /tmp/scanwarden-viewers.$$
    wanted=$(missing)
fi
if [ -n "$wanted" ]; then
    echo "Missing for make viewers:$wanted (apt-get install$wanted)"
    exit 1
fi
