#!/usr/bin/env bash
# Breaks one rule of ownership at a time in a copy of the tree, and expects the simulator to find it within 1000 seeds.
# Takes names of variants; all if there are none.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
# A folder of its own: the copy's packages have the names of ours, and what was built of them must not be taken for ours.
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target}/broken
export ROOST_SEEDS=${ROOST_SEEDS:-1000}
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
# The copy's files are as new as can be, so that nothing that was built before counts as built.
(cd "$root" && git ls-files -z --cached --others --exclude-standard | tar -c --null --files-from - --ignore-failed-read) | tar -xm -C "$tree"
names=("$@")
[ ${#names[@]} -gt 0 ] || mapfile -t names < <(cd "$here" && ls -- *.patch | sed 's/\.patch$//')
missed=0
for name in "${names[@]}"; do
	if ! patch -s -p1 -d "$tree" < "$here/$name.patch"; then
		echo "FAILED  $name: the patch does not apply any more"
		exit 1
	fi
	log=$tree/simulated.log
	(cd "$tree" && cargo test -q -p roost-tests --test sim no_seed_breaks_an_invariant) > "$log" 2>&1 && found=none || found=$(grep -m1 -oE 'seed [0-9]+ breaks invariant [0-9]+' "$log" || true)
	case $found in
	none) echo "MISSED  $name: $ROOST_SEEDS seeds, and no invariant was broken"; missed=1 ;;
	'') echo "FAILED  $name: it does not compile, or the simulator does not run"; grep -m5 -E '^(error|thread)' -A5 "$log" || true; missed=1 ;;
	*) echo "found   $name: $found" ;;
	esac
	patch -s -R -p1 -d "$tree" < "$here/$name.patch"
done
exit $missed
