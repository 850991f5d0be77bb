#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The lint finds what it is there to find, and lets pass what is right: each case is a snippet and
the words its complaint must hold, or none.   test_lint.py"""
import os
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True
import lint

SPDX = "// SPDX-License-Identifier: BSD-3-Clause\n"
TABLE = SPDX + "// Edges:\n//   [A1] release -> [A2] acquire\n//   [P1 < P2] drained before it is named\n#include <atomic>\n"
MESON = "components = [\n  'base', 'media', 'ring', 'map',\n]\n"


def orderings(text, path="lib/ring/ring.cc", **others):
    sources = {path: text, **others}
    return [what for _, _, what in lint.check_orderings(path, text, lint.tables_of(path, sources))]


class Orderings(unittest.TestCase):
    def complains(self, words, text, **others):
        found = orderings(text, **others)
        self.assertTrue(any(words in f for f in found), f"expected '{words}', got {found}")

    def passes(self, text, **others):
        self.assertEqual(orderings(text, **others), [])

    def test_a_memory_order_without_a_label(self):
        self.complains("memory_order_release without", TABLE + "void f() {\n  a.store(1, std::memory_order_release);\n}\n")

    def test_a_scoped_memory_order_without_a_label(self):
        self.complains("without", TABLE + "void f() {\n  a.store(1, std::memory_order::release);\n}\n")

    def test_builtin_orders_and_barriers_without_a_label(self):
        for call in ("__atomic_load_n(p, __ATOMIC_ACQUIRE)", "rte_smp_wmb()", "rte_atomic_thread_fence(2)"):
            self.complains("without", TABLE + f"void f() {{\n  {call};\n}}\n")

    def test_each_persist_call_without_a_label(self):
        for call in ("m.store_release(w, 1)", "m->flush(p, 8)", "m.flush_read(p, 8)", "on().drain()",
                     "m.compare_exchange(&w, was, now)", "m.compare_exchange(word, was, now)",
                     "persist_range(m, p, n)"):
            self.complains("without", TABLE + f"void f() {{\n  {call};\n}}\n")

    def test_a_comment_without_a_label_is_no_label(self):
        self.complains("without", TABLE + "void f() {\n  m.drain(); // release, of course\n}\n")

    def test_a_label_in_a_string_is_no_label(self):
        self.complains("without", TABLE + 'void f() {\n  m.drain("[A1]");\n}\n')

    def test_a_label_of_the_statement_before_is_no_label(self):
        self.complains("without", TABLE + "void f() {\n  m.flush(p, 8); // [A1]\n  m.drain();\n}\n")

    def test_a_label_above_with_a_blank_line_between_is_no_label(self):
        self.complains("without", TABLE + "void f() {\n  // [A1]\n\n  m.drain();\n}\n")

    def test_a_label_on_the_line_of_the_call(self):
        self.passes(TABLE + "void f() {\n  a.store(1, std::memory_order_release); // [A1] pairs with [A2]\n}\n")

    def test_a_label_directly_above_in_a_comment_of_several_lines(self):
        self.passes(TABLE + "void f() {\n  // [A1] release: pairs with [A2].\n  //      Without it ...\n"
                            "  a.store(1,\n          std::memory_order_release);\n}\n")

    def test_a_label_on_another_line_of_the_statement(self):
        self.passes(TABLE + "void f() {\n  a.compare_exchange_weak(n, 1, std::memory_order_acq_rel, // [A1]\n"
                            "                          std::memory_order_acquire);\n}\n")

    def test_a_label_with_words_beside_it(self):
        self.passes(TABLE + "void f() {\n  m.drain(); // [P1, in pieces]\n}\n")

    def test_a_map_s_own_compare_exchange_is_none_of_the_seam_s(self):
        self.passes(TABLE + "void f() {\n  b.compare_exchange(key, was, now);\n}\n")

    def test_orders_in_comments_and_strings_are_none(self):
        self.passes(TABLE + '// memory_order_relaxed\nconst char* s = "m.drain()";\n')

    def test_a_label_in_no_table_and_alone(self):
        self.complains("label Z9", TABLE + "void f() {\n  m.drain(); // [Z9]\n}\n")

    def test_a_label_in_no_table_twice_and_with_no_partner(self):
        self.complains("label Z9", TABLE + "void f() {\n  m.flush(p, 8); // [Z9]\n  m.drain(); // [Z9]\n}\n")

    def test_a_pair_of_labels_without_a_table(self):
        self.passes(SPDX + "#include <x>\nvoid f() {\n  a.store(1, std::memory_order_release); // [Z1] pairs with [Z2]\n"
                           "  a.load(std::memory_order_acquire); // [Z2] pairs with [Z1]\n}\n")

    def test_a_label_of_the_table_that_the_opening_refers_to(self):
        text = SPDX + "// Edges: see ring.cc.\n#include <x>\nvoid f() {\n  m.drain(); // [P1]\n}\n"
        self.passes(text, **{"lib/ring/ring.cc": TABLE, "path": "lib/ring/place.cc"})
        self.complains("label P1", text, **{"lib/ring/other.cc": TABLE, "path": "lib/ring/place.cc"})

    def test_a_label_of_the_table_of_the_source_beside_a_header(self):
        text = SPDX + "#pragma once\ninline void f() {\n  m.drain(); // [P1]\n}\n"
        self.passes(text, **{"lib/ring/ring.cc": TABLE, "path": "lib/ring/ring.h"})

    def test_counts_go_through_a_helper(self):
        self.passes(SPDX + "void bump(std::atomic<int>& a) noexcept {\n  a.fetch_add(1, std::memory_order_relaxed);\n}\n")

    def test_the_helper_has_relaxed_order_and_no_other(self):
        self.complains("without", SPDX + "void bump(std::atomic<int>& a) noexcept {\n  a.fetch_add(1, std::memory_order_release);\n}\n")

    def test_relaxed_counts_outside_the_helper(self):
        self.complains("without", SPDX + "void bump(std::atomic<int>& a) noexcept {\n  a = 1;\n}\n"
                                         "void g() {\n  a.fetch_add(1, std::memory_order_relaxed); // statistics\n}\n")

    def test_a_call_of_the_helper_exempts_nothing(self):
        self.complains("without", SPDX + "void g() {\n  if (bump(x)) {\n    a.load(std::memory_order_relaxed);\n  }\n}\n")

    def test_a_table_lists_what_nothing_carries(self):
        wrong = lint.check_tables({"lib/ring/ring.cc": TABLE + "void f() {} // [A1] [A2] [P1]\n"})
        self.assertEqual([w[2] for w in wrong], ["label P2 is listed and nothing in lib/ring carries it"])
        self.assertEqual(lint.check_tables({"lib/ring/ring.cc": TABLE + "// [A1] [A2] [P1]\n",
                                            "lib/ring/place.cc": SPDX + "#include <x>\n// [P2]\n"}), [])


class Includes(unittest.TestCase):
    def includes(self, path, line):
        return lint.check_includes(path, SPDX + line + "\n", lint.components_of(MESON))

    def test_a_component_that_comes_later(self):
        for line in ('#include "map/durable_map.h"', '#include "../map/durable_map.h"', '#include <map/durable_map.h>',
                     '  #  include "map/durable_map.h"'):
            self.assertEqual(len(self.includes("lib/ring/ring.cc", line)), 1, line)

    def uses(self, **files):
        tree = {"lib/base/meson.build": "headers = files('error.h')\n", "lib/mqttsn/meson.build": "uses = ['base']\n",
                "lib/mqttsn/a.cc": '#include "base/error.h"\n', "lib/ring/meson.build": "uses = ['base']\n",
                "lib/ring/ring.cc": '#include "base/error.h"\n'}
        tree.update({k.replace("__", "/").replace("_meson", "/meson.build").replace("_cc", ".cc"): v for k, v in files.items()})
        return [w[2] for w in lint.check_uses(tree, ["base", "ring", "mqttsn"])]

    def test_uses_and_includes_that_agree(self):
        self.assertEqual(self.uses(), [])

    def test_an_include_that_uses_does_not_list(self):
        self.assertEqual(self.uses(**{"lib__ring_meson": "uses = []\n"}),
                         ["includes a header of base, which is not in the uses of lib/ring/meson.build"])

    def test_a_use_that_nothing_includes(self):
        self.assertEqual(self.uses(**{"lib__ring__ring_cc": "\n"}),
                         ["uses base, and no file of ring includes a header of it"])

    def test_a_component_that_includes_a_front_end(self):
        found = self.uses(**{"lib__ring_meson": "uses = ['mqttsn']\n", "lib__ring__ring_cc": '#include "mqttsn/codec.h"\n'})
        self.assertEqual(found, ["ring includes a header of mqttsn: nothing below a front end knows one"])

    def test_an_umbrella_that_lacks_an_installed_header(self):
        tree = {"lib/base/meson.build": "headers = files('error.h',\n  'site.h')\n", "lib/mqttsn/meson.build": "headers = files('codec.h')\n",
                "lib/chainring.h": '#include "base/error.h"\n', "lib/broker.h": '#include "mqttsn/codec.h"\n#include "base/site.h"\n'}
        found = [w[2] for w in lint.check_umbrellas(tree, ["base", "mqttsn"])]
        self.assertEqual(found, ["does not include base/site.h, which is installed",
                                 "includes base/site.h, which is not installed or belongs to the other umbrella"])

    def test_a_driver_that_includes_another(self):
        def found(line, path="drivers/media/dax/dax.cc"):
            return len(lint.check_driver_includes(path, SPDX + line + "\n"))
        self.assertEqual(found('#include "../file/container.h"'), 1)
        self.assertEqual(found('#include "media/file/file_media.h"'), 1)
        self.assertEqual(found('#include "media/dax/other.h"'), 0)
        self.assertEqual(found('#include "media/container.h"'), 0)
        self.assertEqual(found('#include "other.h"'), 0)
        self.assertEqual(found('#include "media/file/file_media.h"', "tests/lib/media/test_file.cc"), 0)

    def test_a_media_driver_that_reaches_above_media(self):
        self.assertEqual(len(self.includes("drivers/media/file/x.cc", '#include "ring/ring.h"')), 1)

    def test_a_component_before_the_same_and_the_system(self):
        for line in ('#include "base/error.h"', '#include "../media/media.h"', '#include "ring/ring_media.h"',
                     '#include "ring_media.h"', "#include <map>", "#include <sys/mman.h>"):
            self.assertEqual(self.includes("lib/ring/ring.cc", line), [], line)
        self.assertEqual(self.includes("app/x/main.cc", '#include "map/durable_map.h"'), [])


class Files(unittest.TestCase):
    def complains(self, words, path, text):
        found = [w[2] for w in lint.check_file(path, text)]
        self.assertTrue(any(words in f for f in found), f"expected '{words}', got {found}")

    def test_no_spdx_line(self):
        self.complains("SPDX", "lib/base/x.cc", "#include <x>\n")
        self.complains("SPDX", "tests/x.py", "#!/usr/bin/env python3\nimport os\n")
        self.complains("SPDX", "lib/base/x.h", "\n\n" + SPDX)

    def test_too_long(self):
        self.complains("600 lines", "lib/base/x.cc", SPDX + "\n" * 599)
        self.assertEqual(lint.check_file("lib/base/x.cc", SPDX + "\n" * 598), [])

    def test_unfinished(self):
        for mark in ("TO" "DO", "FIX" "ME", "X" "XX"):
            self.complains("unfinished", "lib/base/x.cc", SPDX + f"// {mark}: later\n")
        self.assertEqual(lint.check_file("lib/base/x.cc", SPDX + 'mkdtemp("a' + "X" * 6 + '");\n'), [])

    def test_a_tab(self):
        self.complains("tab", "docs/x.md", "a\tb\n")

    def test_a_path_of_one_machine(self):
        for path in ("/ho" "me/jo/chainring", "/wo" "rk/main", "/ro" "ot/x"):
            self.complains("path of one machine", "docs/x.md", f"see {path}\n")
        self.assertEqual(lint.check_file("docs/x.md", "/var/lib/chainring and lib/root/x\n"), [])


class MediaStructs(unittest.TestCase):
    GOOD = (SPDX + "struct cell {\n  std::uint64_t state; ///< a; b\n  std::uint64_t key[3];\n"
            "  std::uint32_t value[2][2];\n};\nstatic_assert(sizeof(cell) == 48);\nstatic_assert(offsetof(cell, state) == 0);\n"
            "static_assert(offsetof(cell, key) == 8);\nstatic_assert(offsetof(cell, value) == 32);\n")

    def check(self, text, path="lib/map/map_media.h"):
        return [w[2] for w in lint.check_media_structs(path, text)]

    def test_all_asserted(self):
        self.assertEqual(self.check(self.GOOD), [])

    def test_the_size_is_not(self):
        self.assertEqual(self.check(self.GOOD.replace("static_assert(sizeof(cell) == 48);\n", "")),
                         ["struct cell: its size is not asserted"])

    def test_an_offset_is_not(self):
        for field in ("state", "key", "value"):
            lines = [l for l in self.GOOD.split("\n") if f"offsetof(cell, {field})" not in l]
            self.assertEqual(self.check("\n".join(lines)), [f"struct cell: the offset of {field} is not asserted"])

    def test_an_assert_in_a_comment_is_none(self):
        self.assertEqual(len(self.check(self.GOOD.replace("static_assert(sizeof", "// static_assert(sizeof"))), 1)

    def test_no_std_types(self):
        self.assertIn("no media type", " ".join(self.check(self.GOOD.replace("std::uint64_t state;", "std::string state;"))))

    def test_drivers_formats_too(self):
        self.assertEqual(len(self.check("struct a {\n  int b;\n};\n", "drivers/media/file/file_format.h")), 2)

    def test_words_packed_in_memory_are_no_layout(self):
        self.assertEqual(self.check("struct w {\n  bool a = false;\n  static w unpack(int x) { return {}; }\n};\n"), [])


class Program(unittest.TestCase):
    """The script itself: its status, and the place it names."""

    def run_on(self, **files):
        with tempfile.TemporaryDirectory() as root:
            for name, text in {"lib/meson.build": MESON, **files}.items():
                os.makedirs(os.path.dirname(os.path.join(root, name)), exist_ok=True)
                with open(os.path.join(root, name), "w") as f:
                    f.write(text)
            return subprocess.run([sys.executable, lint.__file__, root], capture_output=True, text=True)

    def test_says_where_and_fails(self):
        done = self.run_on(**{"lib/ring/ring.cc": TABLE + "void f() { // [A1] [A2] [P1] [P2]\n}\nvoid g() {\n  m.drain();\n}\n"})
        self.assertEqual(done.returncode, 1)
        self.assertIn("lib/ring/ring.cc:9: drain without a label", done.stdout)

    def test_passes(self):
        done = self.run_on(**{"lib/ring/ring.cc": SPDX + "int x;\n"})
        self.assertEqual((done.returncode, done.stdout), (0, "2 files, 0 complaints\n"))


if __name__ == "__main__":
    unittest.main()
