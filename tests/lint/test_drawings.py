#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The drawings are what their sources make, and the documents agree with the tree about what no compiler checks:
the dependency graph, the links, the decisions.   test_drawings.py SOURCE_DIR"""
import importlib.machinery
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
ROOT = os.path.abspath(sys.argv.pop(1))
MAKE = os.path.join(ROOT, "docs", "drawings", "make")
loader = importlib.machinery.SourceFileLoader("make_drawings", MAKE)
make = importlib.util.module_from_spec(importlib.util.spec_from_loader("make_drawings", loader))
loader.exec_module(make)


def read(*path):
    with open(os.path.join(ROOT, *path), encoding="utf-8") as text:
        return text.read()


def documents():
    yield "README.md"
    for folder, _, files in os.walk(os.path.join(ROOT, "docs")):
        for file in files:
            if file.endswith(".md"):
                yield os.path.relpath(os.path.join(folder, file), ROOT)


def links(document):
    """The files that a document links to, from the top of the tree."""
    for target in re.findall(r"\]\(([^)\s]+)\)", read(document)):
        if not re.match(r"[a-z]+:|#", target):
            yield os.path.normpath(os.path.join(os.path.dirname(document), target.split("#")[0]))


class Drawings(unittest.TestCase):
    def test_every_drawing_is_what_its_source_makes(self):
        done = subprocess.run([sys.executable, "-B", MAKE, "--check"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_every_drawing_is_shown_by_a_document(self):
        shown = {target for document in documents() for target in links(document)}
        for file in os.listdir(os.path.join(ROOT, "docs", "drawings")):
            if file.endswith(".svg"):
                self.assertIn(f"docs/drawings/{file}", shown)


    def test_every_label_in_a_drawing_stands_in_the_sources(self):
        sources = "".join(read(os.path.relpath(os.path.join(folder, file), ROOT))
                          for top in ("lib", "drivers")
                          for folder, _, files in os.walk(os.path.join(ROOT, top)) for file in files
                          if file.endswith((".h", ".cc")))
        for file in os.listdir(os.path.join(ROOT, "docs", "drawings")):
            if not file.endswith(".pikchr"):
                continue
            for label in re.findall(r"\[[a-z0-9]+(?:-[a-z0-9]+)+\]", read("docs", "drawings", file)):
                self.assertTrue(label in sources, f"{file} names {label}, which stands in no source")


class DependencyGraph(unittest.TestCase):
    def copy(self, changes):
        """A tree of the meson.build files of lib, with changes {path: (from, to)}."""
        top = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, top)
        for folder, _, files in os.walk(os.path.join(ROOT, "lib")):
            for file in files:
                if file != "meson.build":
                    continue
                path = os.path.relpath(os.path.join(folder, file), ROOT)
                os.makedirs(os.path.join(top, os.path.dirname(path)), exist_ok=True)
                text = read(path)
                if path in changes:
                    self.assertIn(changes[path][0], text)
                    text = text.replace(*changes[path])
                with open(os.path.join(top, path), "w", encoding="utf-8") as to:
                    to.write(text)
        return top

    def test_a_component_that_uses_another_one_more_gets_an_arrow(self):
        now = make.components(ROOT)
        more = make.components(self.copy({"lib/timer/meson.build": ("['base']", "['base', 'seqlock']")}))
        self.assertIn("uses base seqlock", more)
        self.assertNotEqual(now, more)

    def test_a_component_that_has_no_place_in_the_drawing_is_named(self):
        top = self.copy({"lib/meson.build": ("'topic',", "'topic', 'store',")})
        os.mkdir(os.path.join(top, "lib", "store"))
        with open(os.path.join(top, "lib", "store", "meson.build"), "w", encoding="utf-8") as to:
            to.write("uses = ['base']\n")
        with self.assertRaisesRegex(SystemExit, "lib/store has no place in the drawing"):
            make.components(top)

    def test_an_arrow_that_would_cross_a_box_is_refused(self):
        self.addCleanup(setattr, make, "PLACES", make.PLACES)
        make.PLACES = {"topic": (0, 2, ""), "map": (0, 1, ""), "base": (0, 0, "")}
        self.assertEqual(len(make.route("topic", "map")), 2)
        with self.assertRaisesRegex(SystemExit, "the arrow from topic to base would cross the box of map"):
            make.route("topic", "base")

    def test_the_table_of_the_tour_says_what_the_meson_files_say(self):
        rows = re.findall(r"^\| `(\w+)` \| ([\w, ]*) ?\|", read("docs", "architecture.md"), re.M)
        told = {name: [u for u in uses.strip().split(", ") if u] for name, uses in rows}
        self.assertEqual(told, make.dependencies(ROOT))


class Documents(unittest.TestCase):
    def test_every_link_leads_to_a_file_of_the_tree(self):
        for document in documents():
            for target in links(document):
                self.assertTrue(os.path.exists(os.path.join(ROOT, target)), f"{document} links to {target}")

    def test_every_decision_is_linked_from_the_tour_or_the_durability_document(self):
        told = set(links("docs/architecture.md")) | set(links("docs/durability.md")) | set(links("docs/contributing.md"))
        for file in sorted(os.listdir(os.path.join(ROOT, "docs", "decisions"))):
            self.assertIn(f"docs/decisions/{file}", told)


if __name__ == "__main__":
    unittest.main()
