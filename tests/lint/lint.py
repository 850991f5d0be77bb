#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""What the sources promise each other and no compiler checks.   lint.py SOURCE_DIR

Ordering: each memory order and each persist call in lib/ and drivers/ carries a label such as [slot-ready] or [R2],
on a line of its statement or in the comment directly above. Each label stands in an edges table (the
comment a file begins with, that of the .cc beside it or of a file it refers to), or twice in the file and once beside
its partner; and no table lists a label its folder does not use. Counts that order nothing go through
lib/base/statistic.h or a helper named as in HELPERS, which are exempt.
Components: a file of lib/<c> includes headers of <c> and of those before it in lib/meson.build; the `uses` of
its meson.build list just these; none below the front ends includes one. lib/chainring.h and lib/broker.h include
every installed header.
Files: an SPDX line, fewer than 600 lines, no tabs, no marks of unfinished work, no paths of one
machine. Media structs: size and every offset asserted, in every lib/*/*_media.h, lib/*/*_format.h
and drivers/**/*_format.h. Drivers: none includes another's header.
"""
import os
import re
import sys

CODE = (".cc", ".h")
TEXT = CODE + (".py", ".md", ".sh", ".conf", ".args", ".in", "meson.build", "meson_options.txt")
TOPS = ("app", "lib", "drivers", "tests", "docs", ".ci")
LINES_MAX = 600
ORDER = re.compile(r"\bmemory_order(?:_|::)\w+|\b__ATOMIC_[A-Z_]+|\brte_(?:smp_)?[rwm]?mb\(|\brte_atomic_thread_fence\(")
# A map's own compare_exchange takes a key, and is none of the seam's.
PERSIST = re.compile(r"(?:\.|->)(?:store_release|flush|flush_read|drain)\s*\("
                     r"|(?:\.|->)compare_exchange\s*\((?!key\b)|\bpersist_range\s*\((?!media&)")
# A label is a letter or two and a number, or better words joined by hyphens.
LABEL = re.compile(r"\b[A-Z]{1,2}\d+[a-z]?\b|(?<![\w-])[a-z][a-z0-9]*(?:-[a-z0-9]+)+(?![\w-])")
BRACKETS = re.compile(r"\[([^\]\n]*)\]")
EXEMPT_FILES = ("lib/base/statistic.h",)
# The helpers for counts, which may use relaxed order and no other.
HELPERS = ("bump", "tally", "counted", "load_counter", "store_counter", "load_age", "store_age")
EXEMPT_FUNCTION = re.compile(rf"[\w>&]\s+(?:{'|'.join(HELPERS)})\s*\([^;]*\{{\s*$")
UNFINISHED = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|X" r"XX)\b")
MACHINE = re.compile(r"(?<![\w.])/(?:home|Users|root|work|mnt)/\w")


def split(text):
    """The lines of `text` as two lists: code without comments and string contents, and comments."""
    token = re.compile(r'(?P<line>//[^\n]*)|(?P<block>/\*.*?\*/)|(?P<raw>R"(?P<d>[^(\s]*)\(.*?\)(?P=d)")'
                       r'|(?P<string>"(?:\\.|[^"\\\n])*")|(?P<char>(?<![0-9a-fA-F])\'(?:\\.|[^\'\\\n])+\')', re.S)
    code, comments, at = [], [], 0

    def put(to, other, piece):
        to.append(piece)
        other.append("\n" * piece.count("\n"))

    for m in token.finditer(text):
        put(code, comments, text[at:m.start()])
        piece = m.group(0)
        if m.group("line") or m.group("block"):
            put(comments, code, piece)
        else:
            put(code, comments, '""' + "\n" * piece.count("\n"))
        at = m.end()
    put(code, comments, text[at:])
    return "".join(code).split("\n"), "".join(comments).split("\n")


def labels_in(comment):
    return {l for b in BRACKETS.findall(comment) for l in LABEL.findall(b)}


def opening(text):
    """The comment a file begins with: where its edges and crash windows stand."""
    lines = []
    for line in text.split("\n"):
        if line.strip() and not line.startswith("//"):
            break
        lines.append(line)
    return "\n".join(lines)


def statement(code, at):
    """Lines of the statement that line `at` belongs to: first and last."""
    end_of = lambda line: re.search(r"[;{}]\s*$|(?<!:):\s*$", line.rstrip())
    first = at
    while first > 0 and code[first - 1].strip() and not end_of(code[first - 1]) and \
            not code[first - 1].lstrip().startswith("#"):
        first -= 1
    last = at
    while last + 1 < len(code) and not re.search(r"[;{}]\s*$", code[last].rstrip()):
        last += 1
    return first, last


def check_orderings(path, text, tables):
    """`tables`: the labels of the edges tables that count for this file."""
    code, comments = split(text)
    wrong, exempt, here = [], None, {}
    for n, comment in enumerate(comments):
        for label in labels_in(comment):
            here.setdefault(label, []).append(n)
    for n, line in enumerate(code):
        if exempt is not None and line.startswith(exempt + "}"):
            exempt = None
        elif exempt is None and EXEMPT_FUNCTION.search(line):
            exempt = re.match(r"\s*", line).group(0)
        call = ORDER.search(line) or PERSIST.search(line)
        if call is None or path in EXEMPT_FILES:
            continue
        if exempt is not None and set(ORDER.findall(line)) == {"memory_order_relaxed"} and not PERSIST.search(line):
            continue
        first, last = statement(code, n)
        above = first
        while above > 0 and not code[above - 1].strip() and comments[above - 1].strip():
            above -= 1
        if not any(labels_in(c) for c in comments[above:last + 1]):
            wrong.append((path, n + 1, f"{call.group(0).strip('.->(')} without a label"))
    top = len(opening(text).split("\n"))
    for label, lines in sorted(here.items()):
        if label in tables or all(n < top for n in lines):
            continue
        partnered = any(len(labels_in(comments[n]) - {label}) > 0 for n in lines)
        if len(lines) < 2 or not partnered:
            wrong.append((path, lines[0] + 1, f"label {label} is in no edges table and has no partner here"))
    return wrong


def tables_of(path, sources):
    """Labels of the file's own table and of those its opening comment refers to, in its folder."""
    folder, own = os.path.split(path)
    found = set(LABEL.findall(opening(sources[path])))
    named = re.findall(r"\b\w+\.(?:cc|h)\b", opening(sources[path]))
    for name in named + [os.path.splitext(own)[0] + ".cc"]:
        other = f"{folder}/{name}"
        if other in sources:
            found |= set(LABEL.findall(opening(sources[other])))
    return found


def check_tables(sources):
    """Labels that an opening comment lists in brackets and nothing in the folder carries."""
    wrong = []
    for path, text in sources.items():
        used = set()
        for other, body in sources.items():
            if os.path.dirname(other) != os.path.dirname(path):
                continue
            comments = split(body)[1]
            for comment in comments[len(opening(body).split("\n")):]:
                used |= set(LABEL.findall(comment))
        for label in sorted(labels_in(opening(text)) - used):
            wrong.append((path, 1, f"label {label} is listed and nothing in {os.path.dirname(path)} carries it"))
    return wrong


def components_of(lib_meson):
    return re.findall(r"'(\w+)'", re.search(r"^components\s*=\s*\[(.*?)\]", lib_meson, re.S | re.M).group(1))


# Components that speak a protocol. Nothing else in lib/ includes one, but those in FRONT_END_USERS.
FRONT_ENDS = ("mqttsn", "mqtt")
FRONT_END_USERS = ()
# What lib/broker.h includes; lib/chainring.h has the rest.
BROKER_UMBRELLA = ("broker",) + FRONT_ENDS


def list_in(meson, name):
    """What `name = [...]` or `name = files(...)` and its += list in a meson.build."""
    lists = re.findall(rf"^\s*{name}\s*\+?=\s*(?:files\(|\[)(.*?)[\])]", meson, re.S | re.M)
    return [item for one in lists for item in re.findall(r"'([^']+)'", one)]


def included_components(component, sources, components):
    """Other components that the files of lib/<component>, and for media those of the drivers, include: {name: path}."""
    found = {}
    for path, text in sources.items():
        part = path.split("/")
        mine = part[0] == "lib" and len(part) == 3 and part[1] == component
        if not mine and not (component == "media" and path.startswith("drivers/media/")):
            continue
        for name in re.findall(r'^\s*#\s*include\s+"([^">]+)"', text, re.M):
            other = name.removeprefix("../").split("/")[0]
            if "/" in name and other in components and other != component:
                found.setdefault(other, path)
    return found


def check_uses(files, components):
    """The includes of a component and the `uses` of its meson.build say the same; nothing below the front ends includes one."""
    wrong = []
    sources = {p: t for p, t in files.items() if p.endswith(CODE)}
    for component in components:
        meson = f"lib/{component}/meson.build"
        uses = list_in(files.get(meson, ""), "uses")
        included = included_components(component, sources, components)
        for other, path in sorted(included.items()):
            if other not in uses:
                wrong.append((path, 1, f"includes a header of {other}, which is not in the uses of {meson}"))
            if other in FRONT_ENDS and component not in FRONT_ENDS + FRONT_END_USERS:
                wrong.append((path, 1, f"{component} includes a header of {other}: nothing below a front end knows one"))
        for other in uses:
            if other not in included:
                wrong.append((meson, 1, f"uses {other}, and no file of {component} includes a header of it"))
    return wrong


def check_umbrellas(files, components):
    """lib/chainring.h includes each installed header of the library, lib/broker.h each of the broker and the protocols."""
    wrong = []
    for umbrella, theirs in (("lib/chainring.h", [c for c in components if c not in BROKER_UMBRELLA]),
                             ("lib/broker.h", [c for c in components if c in BROKER_UMBRELLA])):
        expected = {f"{c}/{h}" for c in theirs for h in list_in(files.get(f"lib/{c}/meson.build", ""), "headers")}
        found = set(re.findall(r'^#include "([^"]+)"', files.get(umbrella, ""), re.M))
        for header in sorted(expected - found):
            wrong.append((umbrella, 1, f"does not include {header}, which is installed"))
        for header in sorted(found - expected):
            wrong.append((umbrella, 1, f"includes {header}, which is not installed or belongs to the other umbrella"))
    return wrong


def check_driver_includes(path, text):
    """A driver includes nothing of another's: what two of them need lies in lib/media."""
    part = path.split("/")
    if not path.startswith("drivers/") or len(part) < 4:
        return []
    wrong = []
    for n, line in enumerate(text.split("\n"), 1):
        included = re.match(r'\s*#\s*include\s+["<]([^">]+)[">]', line)
        if not included or "/" not in included.group(1):
            continue
        name = included.group(1)
        at = os.path.normpath(os.path.join(os.path.dirname(path), name)) if name.startswith("../") else "drivers/" + name
        other = at.split("/")
        if other[0] == "drivers" and other[1:3] != part[1:3] and other[1] in ("media", "mempool") and len(other) > 3:
            wrong.append((path, n, f"driver {part[2]} includes {name}, which is another driver's: move it to lib/media"))
    return wrong


def check_includes(path, text, components):
    part = path.split("/")
    if part[0] == "lib" and len(part) == 3:
        mine = part[1]
    elif path.startswith("drivers/media/"):
        mine = "media"  # compiled into it
    else:
        return []
    wrong = []
    for n, line in enumerate(text.split("\n"), 1):
        included = re.match(r'\s*#\s*include\s+["<]([^">]+)[">]', line)
        if not included:
            continue
        name = included.group(1)
        if name.startswith("../") and part[0] == "lib":
            name = name[3:]
        other = name.split("/")[0] if "/" in name else mine
        if other not in components:
            continue
        if components.index(other) > components.index(mine):
            wrong.append((path, n, f"{mine} includes {included.group(1)}, and {other} comes after it in lib/meson.build"))
    return wrong


def check_file(path, text):
    wrong = []
    lines = text.split("\n")
    if path.endswith(CODE + (".py", ".sh", ".conf", ".args", ".in")):
        if "SPDX-License-Identifier: BSD-3-Clause" not in "\n".join(lines[:2]):
            wrong.append((path, 1, "no SPDX line"))
    if len(lines) - 1 >= LINES_MAX:
        wrong.append((path, LINES_MAX, f"{len(lines) - 1} lines, expected fewer than {LINES_MAX}"))
    for n, line in enumerate(lines, 1):
        if "\t" in line:
            wrong.append((path, n, "a tab"))
        if UNFINISHED.search(line):
            wrong.append((path, n, "a mark of unfinished work"))
        if MACHINE.search(line):
            wrong.append((path, n, "a path of one machine"))
    return wrong


def fields_of(body):
    """Names of the data members in a struct's body, comments gone; those of nested braces are not."""
    flat, depth = "", 0
    for c in body:
        depth += c == "{"
        if depth == 0:
            flat += c
        elif c == "}" and depth == 1:
            flat += ";"
        depth -= c == "}"
    fields = []
    for declaration in flat.split(";"):
        d = declaration.split("=")[0].strip()
        if not d or "(" in d or re.match(r"(?:static|using|enum|friend|struct|union|public|private)\b", d):
            continue
        name = re.search(r"(\w+)\s*(?:\[[^\]]*\]\s*)*$", d)
        fields.append(name.group(1))
    return fields


def check_media_structs(path, text):
    """A struct with a default member initialiser or functions only is a value in memory, packed into
    a word; one without is a layout."""
    if not re.match(r"lib/\w+/\w+_(?:media|format)\.h$|drivers/.*_format\.h$", path):
        return []
    code = "\n".join(split(text)[0])
    wrong = []
    for m in re.finditer(r"^struct\s+(\w+)\s*\{(.*?)^\};", code, re.S | re.M):
        name, body = m.groups()
        fields = fields_of(body)
        line = code[:m.start()].count("\n") + 1
        if not fields or re.search(r"\bunpack\s*\(", body):
            continue
        if "std::vector" in body or "std::string" in body:
            wrong.append((path, line, f"struct {name} holds what is no media type"))
        if not re.search(rf"static_assert\(\s*sizeof\({name}\)\s*==", code):
            wrong.append((path, line, f"struct {name}: its size is not asserted"))
        for field in fields:
            if not re.search(rf"static_assert\(\s*offsetof\({name},\s*{field}\)\s*==", code):
                wrong.append((path, line, f"struct {name}: the offset of {field} is not asserted"))
    return wrong


def read_tree(root):
    files = {}
    for top in TOPS:
        for folder, below, names in os.walk(os.path.join(root, top)):
            below[:] = [d for d in below if d != "__pycache__"]
            for name in names:
                path = os.path.relpath(os.path.join(folder, name), root)
                if name.endswith(TEXT) or top == ".ci":
                    files[path] = open(os.path.join(folder, name), encoding="utf-8").read()
    for name in os.listdir(root):
        if os.path.isfile(os.path.join(root, name)) and name.endswith(TEXT):
            files[name] = open(os.path.join(root, name), encoding="utf-8").read()
    return files


def check_tree(root):
    files = read_tree(root)
    ordered = {p: t for p, t in files.items() if p.startswith(("lib/", "drivers/")) and p.endswith(CODE)}
    components = components_of(files["lib/meson.build"])
    wrong = check_tables(ordered) + check_uses(files, components) + check_umbrellas(files, components)
    for path, text in ordered.items():
        wrong += check_orderings(path, text, tables_of(path, ordered))
        wrong += check_includes(path, text, components)
        wrong += check_driver_includes(path, text)
        wrong += check_media_structs(path, text)
    for path, text in files.items():
        wrong += check_file(path, text)
    return sorted(wrong), len(files)


if __name__ == "__main__":
    found, count = check_tree(sys.argv[1])
    for path, line, what in found:
        print(f"{path}:{line}: {what}")
    print(f"{count} files, {len(found)} complaints")
    sys.exit(1 if found else 0)
