#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""What the sources promise each other and no compiler checks.   lint.py SOURCE_DIR

Orderings: each memory order and each persist call in app/, lib/ and drivers/ carries an ordering label, on a line of its
statement or in the comment directly above. Relaxed counters go through lib/base/statistic.h or a helper named as in
HELPERS; these and the benchmarks of app/chainring-bench are exempt.

A label is two or more lower-case words joined by hyphens, alone in brackets, and unique in the tree: [slot-ready].
Each label has one row in one table. A table stands in the comment a file begins with:

    // Ordering labels:
    //   [slot-ready]  enqueue() stores ready[slot] with release; pairs with [slot-seen].
    //   [slot-seen]  lease() loads ready[slot] with acquire; pairs with [slot-ready].
    //   [payload-before-publish]  The payload is drained before the commit word of the descriptor
    //     is stored.
    //   [depth-shown]  The depth is read at any moment for statistics; it orders nothing.

A row is full sentences. It names a partner: "pairs with [label]", whose row names this label in turn; or, for a
persist call, what happens "before" what; or it says that the access "orders nothing" and why. What breaks without a
label is said once in the tree, as a sentence behind the label at the line of code that needs it; everywhere else the
bare label stands:

    // [slot-ready] Without it a consumer could read a slot that is not durable yet.
    // [payload-before-publish] Crash between: the slots are void and the blocks are free again.

A label that orders nothing needs no such sentence. A label that a document names in backquotes, or a test in a string,
has a row too. A table headed "Recovery cases:" has rows of the same form for the cases of a recovery; they need no
partner, and code names them. Lettered labels such as [R2] are refused.

Components: a file of lib/<c> includes headers of <c> and of the components before it in lib/meson.build. The list
`uses` of its meson.build names exactly the components it includes. No component below the front ends includes a front
end. lib/chainring.h and lib/broker.h together include every installed header. A driver includes no header of another
driver.
Files: each has an SPDX line, and none has a tab, a mark of unfinished work or a path of one machine. Media structs, in
every lib/*/*_media.h, lib/*/*_format.h and drivers/**/*_format.h: the size and every offset are asserted.
Sizes: the longest files and functions are reported, and nothing fails because of them.
"""
import os
import re
import sys

CODE = (".cc", ".h")
TEXT = CODE + (".py", ".md", ".sh", ".conf", ".args", ".in", "meson.build", "meson_options.txt")
TOPS = ("app", "lib", "drivers", "tests", "docs", ".ci")
# Files and functions with at least this many lines are reported.
FILE_LINES, FUNCTION_LINES, LONGEST_SHOWN = 600, 70, 10
ORDER = re.compile(r"\bmemory_order(?:_|::)\w+|\b__ATOMIC_[A-Z_]+|\brte_(?:smp_)?[rwm]?mb\(|\brte_atomic_thread_fence\(")
# A compare_exchange() whose first argument is `key` is the map's own operation and no persist call.
PERSIST = re.compile(r"(?:\.|->)(?:store_release|flush|flush_read|drain)\s*\("
                     r"|(?:\.|->)compare_exchange\s*\((?!key\b)|\bpersist_range\s*\((?!media&)")
LABEL = re.compile(r"\[([a-z][a-z0-9]*(?:-[a-z0-9]+)+)\]")
LETTERS = re.compile(r"\[[A-Z]{1,2}\d+[a-z]?(?:[ ,<][^\]\n]*)?\]")
TABLE_HEADS = ("Ordering labels:", "Recovery cases:")
PAIRS_WITH = re.compile(r"\bpairs with ((?:\[[a-z0-9-]+\](?:, | and )?)+)", re.I)
EXEMPT_FILES = ("lib/base/statistic.h",)
# Helpers for counters. They may use relaxed order and no other.
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


def opening(text):
    """The comment a file begins with, where its tables stand."""
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


def table_rows(text):
    """The rows of the tables in a file's opening comment: (label, words, line number, head of the table)."""
    rows, head = [], None
    for n, line in enumerate(opening(text).split("\n"), 1):
        words = line.lstrip("/")
        if words.strip() in TABLE_HEADS:
            head = words.strip()
        elif head is not None and (row := re.match(r"   \[([a-z0-9-]+)\]  (.*)", words)):
            rows.append([row.group(1), row.group(2).strip(), n, head])
        elif head is not None and rows and re.match(r" {5,}\S", words):
            rows[-1][1] += " " + words.strip()
        else:
            head = None
    return [tuple(row) for row in rows]


def ordered_lines(path, text):
    """The lines of code that order something: (line from 0, the call, the comments of its statement)."""
    code, comments = split(text)
    exempt = None
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
        yield n, call.group(0).strip(".->("), comments[above:last + 1]


def comment_blocks(text):
    """The comments behind a file's opening, those of adjoining lines joined: (line from 1, words)."""
    code, comments = split(text)
    blocks, joined = [], False
    for n in range(len(opening(text).split("\n")), len(comments)):
        words = comments[n].strip()
        if not words:
            joined = False
            continue
        words = re.sub(r"^/[/*]+[<!]?", "", words).strip()
        if joined and not code[n].strip():
            blocks[-1] = (blocks[-1][0], blocks[-1][1] + " " + words)
        else:
            blocks.append((n + 1, words))
        joined = True
    return blocks


def check_labels(sources):
    """The rules for labels, over all sources at once: {path: text}."""
    wrong, rows, used, sentences = [], {}, {}, {}
    for path, text in sources.items():
        for label, words, n, head in table_rows(text):
            if label in rows:
                wrong.append((path, n, f"label {label} has a row in {rows[label][0]} too"))
            else:
                rows[label] = (path, n, words, head)
    for path, text in sources.items():
        for n, words in comment_blocks(text):
            for m in LABEL.finditer(words):
                label = m.group(1)
                used.setdefault(label, (path, n))
                if re.match(r"\s+[A-Z`].*?\.(?:\s|$)", words[m.end():] + " "):
                    if label in sentences and label in rows:
                        wrong.append((path, n, f"label {label} has its sentence in {sentences[label]} already: "
                                               "here its name is enough"))
                    sentences[label] = path
        for n, call, comments in ordered_lines(path, text):
            if not any(LABEL.search(c) for c in comments):
                wrong.append((path, n + 1, f"{call} without a label"))
        for n, comment in enumerate(split(text)[1], 1):
            if letters := LETTERS.search(comment):
                wrong.append((path, n, f"{letters.group(0)} is a lettered label: let it say what it orders"))
            for label in LABEL.findall(comment):
                if label not in rows:
                    wrong.append((path, n, f"label {label} has no row in any table"))
    for label, (path, n, words, head) in rows.items():
        say = lambda what: wrong.append((path, n, f"label {label} {what}"))
        if label not in used:
            say("has a row and no line of code carries it")
        if not words.endswith((".", ":")):
            say("has a row that is not a full sentence")
        if head != TABLE_HEADS[0]:
            continue
        idle = re.search(r"\borders?\s+nothing\b", words, re.I)
        partners = [p for group in PAIRS_WITH.findall(words) for p in re.findall(r"\[([a-z0-9-]+)\]", group)]
        for partner in partners:
            if partner not in rows:
                say(f"pairs with {partner}, which has no row")
            elif f"[{label}]" not in rows[partner][2] and partner != label:
                say(f"pairs with {partner}, whose row does not name it back")
        if not idle and not partners and not re.search(r"\bbefore\b", words):
            say('names no partner: "pairs with [label]", what is "before" what, or that it "orders nothing"')
        if not idle and label not in sentences:
            say("has no sentence, at any line of code, that says what breaks without it")
    return wrong


def check_named_labels(files):
    """Labels that documents name in backquotes, and tests in strings, have a row in a table."""
    rows = {row[0] for path, text in files.items() if path.startswith(("lib/", "drivers/", "app/")) and path.endswith(CODE)
            for row in table_rows(text)}
    wrong = []
    for path, text in files.items():
        if path.startswith("docs/") or path == "README.md":
            named = re.compile(r"`\[([a-z0-9]+(?:-[a-z0-9]+)+)\]`")
        elif path.startswith("tests/lib/") and path.endswith(CODE):
            named = re.compile(r'"\[([a-z0-9]+(?:-[a-z0-9]+)+)\]"')
        else:
            continue
        for n, line in enumerate(text.split("\n"), 1):
            wrong += [(path, n, f"label {label} has no row in any table") for label in named.findall(line) if label not in rows]
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


def functions_of(text):
    """The functions of a C++ source, by clang-format's indentation: (first line, count of lines, name)."""
    code = split(text)[0]
    found, depth_of = [], None
    for n, line in enumerate(code):
        if depth_of is None:
            if not line.rstrip().endswith("{"):
                continue
            first = statement(code, n)[0]
            indent = re.match(r" *", code[first]).group(0)
            name = re.search(r"([\w:~]+)\s*\(", " ".join(code[first:n + 1]))
            if name and len(indent) <= 4 and not re.search(r"\b(?:struct|class|enum|union|namespace|extern|for|while|if|switch)\b",
                                                           code[first].split("(")[0]):
                depth_of = (indent, first, name.group(1))
        elif re.match(rf"{depth_of[0]}\}}", line):
            found.append((depth_of[1] + 1, n + 1 - depth_of[1], depth_of[2]))
            depth_of = None
    return found


def sizes(files):
    """What is long: sentences for the reader, which fail nothing."""
    long = []
    for path, text in files.items():
        lines = text.count("\n")
        if lines >= FILE_LINES and path.endswith(CODE + (".py",)):
            long.append((lines, f"{path} has {lines} lines"))
        if path.endswith(CODE):
            long += [(n, f"{path}:{first}: {name}() has {n} lines")
                     for first, n, name in functions_of(text) if n >= FUNCTION_LINES]
    words = [words for _, words in sorted(long, reverse=True)]
    return words[:LONGEST_SHOWN] + ([f"{len(words) - LONGEST_SHOWN} more"] if len(words) > LONGEST_SHOWN else [])


def check_tree(root):
    files = read_tree(root)
    ordered = {p: t for p, t in files.items() if p.startswith(("app/", "lib/", "drivers/")) and p.endswith(CODE)
               and not p.startswith("app/chainring-bench/")}
    components = components_of(files["lib/meson.build"])
    wrong = check_labels(ordered) + check_named_labels(files) + check_uses(files, components) + check_umbrellas(files, components)
    for path, text in ordered.items():
        wrong += check_includes(path, text, components)
        wrong += check_driver_includes(path, text)
        wrong += check_media_structs(path, text)
    for path, text in files.items():
        wrong += check_file(path, text)
    return sorted(wrong), files


if __name__ == "__main__":
    found, files = check_tree(sys.argv[1])
    for words in sizes(files):
        print(f"long: {words}")
    for path, line, what in found:
        print(f"{path}:{line}: {what}")
    print(f"{len(files)} files, {len(found)} complaints")
    sys.exit(1 if found else 0)
