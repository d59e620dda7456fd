#!/usr/bin/env python3
"""Adds up what the suites said, over all places in which they ran.

    test-report.py LOG…      e.g. target/results/{check,native,vm}.log

A log has the lines of Rust's test harnesses (`test NAME ... ok|FAILED|ignored`),
`skip NAME: reason` for a case that saw at run time that it can't run here, and the
marks `==> suite NAME` and `==> ended NAME STATUS` of hack/run-suites.sh. One case in
several logs counts once: it failed if it failed anywhere, and it passed if it passed
anywhere, so what is skipped here and passes in the virtual machine has passed, and
what `make check` leaves out as it needs root and a suite root_NAME runs, ran. A
suite that was begun and did not end by itself is a failure of its own.

The last line is the result; the exit status is 0 only if nothing failed and at
least one test ran.
"""

import re
import sys

RESULT = r"(?P<result>ok|FAILED|failed|ignored)(?:,? \(?(?P<reason>.*?)\)?)?$"
TEST = re.compile(r"^test (?:\[[^\]]*\] )?(?P<name>\S.*?)(?: - should panic)? *\.\.\. (?P<rest>.*)$")
OUTCOME = re.compile("^" + RESULT)
SKIP = re.compile(r"^skip (?P<name>[^:\s]+(?:::[^:\s]+)*): (?P<reason>.+)$")
BEGIN = re.compile(r"^==> suite (?P<name>\S+)$")
END = re.compile(r"^==> ended (?P<name>\S+) (?P<status>\d+)$")

RANK = {"FAILED": 2, "ok": 1, "ignored": 0}


class Cases:
    """Every case with the weightiest of its results."""

    def __init__(self):
        self.results = {}

    def add(self, suite, name, result, place, reason=""):
        key = (suite, name)
        old = self.results.get(key)
        if old is None or RANK[result] > RANK[old[0]]:
            self.results[key] = (result, place, reason)

    def forget_what_ran_as_root(self):
        ran = {name for (suite, name), (result, _, _) in self.results.items()
               if suite.startswith("root_") and result != "ignored"}
        for key in [k for k, found in self.results.items()
                    if k[0] == "unit" and k[1] in ran and found[0] == "ignored"]:
            del self.results[key]

    def of(self, result):
        return [(f"{suite}: {name}", place, reason)
                for (suite, name), (found, place, reason) in sorted(self.results.items()) if found == result]


def read(path, cases):
    place = path.rsplit("/", 1)[-1].removesuffix(".log")
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
    except OSError as error:
        cases.add(place, "ran at all", "FAILED", place, str(error))
        return
    suite, skips, tests, failed = None, {}, {}, False

    def close(status):
        nonlocal suite, skips, tests
        for name, (result, reason) in tests.items():
            if name in skips and result != "FAILED":
                result, reason = "ignored", skips[name]
            cases.add(suite, name, result, place, reason)
        for name in skips.keys() - tests.keys():
            cases.add(suite, name, "ignored", place, skips[name])
        failed = any(result == "FAILED" for result, _ in tests.values())
        if status is None:
            cases.add(suite, "ends by itself", "FAILED", place, "its log stops in the middle")
        elif status in (124, 137):
            cases.add(suite, "ends by itself", "FAILED", place, "its time was up")
        elif status != 0 and not failed:
            cases.add(suite, "ends by itself", "FAILED", place, f"it ended with status {status} and named no failed case")
        elif not tests:
            cases.add(suite, "has tests", "FAILED", place, "it named none")
        suite, skips, tests = None, {}, {}

    # With one thread a harness writes the name, runs the test, then the result: what
    # the test itself says stands between.
    pending = None
    for line in lines:
        if found := BEGIN.match(line):
            if suite is not None:
                close(None)
            suite, pending = found["name"], None
            continue
        if suite is None:
            continue
        if found := END.match(line):
            if pending is not None:
                tests[pending] = ("FAILED", "it never ended")
            close(int(found["status"]))
            pending = None
            continue
        if found := TEST.match(line):
            pending, line = found["name"], found["rest"]
        if found := SKIP.match(line):
            skips[found["name"]] = found["reason"]
        elif pending is not None and (found := OUTCOME.match(line)):
            result = {"failed": "FAILED"}.get(found["result"], found["result"])
            tests[pending] = (result, found["reason"] or "")
            pending = None
    if suite is not None:
        close(None)


def main():
    cases = Cases()
    for path in sys.argv[1:]:
        read(path, cases)
    cases.forget_what_ran_as_root()
    passed, failed, skipped = cases.of("ok"), cases.of("FAILED"), cases.of("ignored")
    for name, place, reason in skipped:
        print(f"skipped {name} ({place}): {reason or 'it gave no reason'}")
    for name, place, reason in failed:
        print(f"FAILED {name} ({place}){': ' + reason if reason else ''}")
    print(f"{len(passed)} passed, {len(failed)} failed, {len(skipped)} skipped")
    sys.exit(0 if passed and not failed else 1)


main()
