#!/usr/bin/env bash
# Debian's Nsight Systems (from its non-free section), unpacked into DIR and installed nowhere: `tests/fetch_nsys.sh DIR`.
# DIR/bin/nsys records ranges on any machine, and kernels where there is a GPU whose driver it knows.
set -euo pipefail
to=$(realpath -m "$1")
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir -p "$scratch/parts" "$scratch/lists/partial" "$scratch/cache/archives/partial" "$to/bin"

# The machine's own sources with one more section, in lists and a cache of our own.
for source in /etc/apt/sources.list.d/*.sources; do
    [ -e "$source" ] && sed 's/^Components:.*/Components: main non-free/' "$source" > "$scratch/parts/${source##*/}"
done
[ -e /etc/apt/sources.list ] && sed 's/ main.*/ main non-free/' /etc/apt/sources.list > "$scratch/parts/own.list"
own=(-o Dir::Etc::sourcelist=/dev/null -o "Dir::Etc::sourceparts=$scratch/parts" -o "Dir::State::lists=$scratch/lists"
    -o "Dir::Cache=$scratch/cache")
apt-get "${own[@]}" update
cd "$scratch"
apt-get "${own[@]}" download nsight-systems nsight-systems-target libssh-4
for package in ./*.deb; do dpkg -x "$package" "$to"; done

# nsys looks for its importer beside its own folder, from which Debian has taken it away.
target=$(dirname "$(find "$to/usr/lib" -path '*target-linux-x64/nsys' -type f)")
ln -sfn "$to/usr/lib/nsight-systems/host-linux-x64" "$(dirname "$target")/host-linux-x64"
ln -sfn "$target/nsys" "$to/bin/nsys"
"$to/bin/nsys" --version
