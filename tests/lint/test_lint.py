#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Tests of the lint: each case is a snippet of source, and the words that the complaint about it must hold, or none.
   test_lint.py"""
import os
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True
import lint

SPDX = "// SPDX-License-Identifier: BSD-3-Clause\n"
TABLE = (SPDX + "// Ordering labels:\n"
         "//   [slot-ready]  enqueue() stores ready[slot] with release; pairs with [slot-seen].\n"
         "//   [slot-seen]  lease() loads ready[slot] with acquire;\n//     pairs with [slot-ready].\n"
         "//   [payload-first]  The payload is drained before the slot is stored.\n"
         "//   [depth-shown]  The depth is read for statistics; it orders nothing.\n#include <atomic>\n")
CODE = ("void code() {\n  // [slot-ready] Without it a consumer could read old bytes.\n  a.store(1, std::memory_order_release);\n"
        "  // [slot-seen] Without it a consumer could read old bytes.\n  a.load(std::memory_order_acquire);\n"
        "  // [payload-first] Crash between: the slot\n  //   is void.\n  m.drain();\n"
        "  b.load(std::memory_order_relaxed); // [depth-shown]\n}\n")
MESON = "components = [\n  'base', 'media', 'ring', 'map',\n]\n"


def orderings(text, path="lib/ring/ring.cc", **others):
    return [what for _, _, what in lint.check_labels({path: text, **others})]


class Orderings(unittest.TestCase):
    """`text` is put behind a table and code that are right, so that each case has one fault or none."""

    def complains(self, words, text):
        found = orderings(TABLE + CODE + text)
        self.assertTrue(any(words in f for f in found), f"expected '{words}', got {found}")

    def passes(self, text):
        self.assertEqual(orderings(TABLE + CODE + text), [])

    def test_a_table_and_code_that_are_right_pass(self):
        self.passes("")

    def test_a_memory_order_without_a_label_is_refused(self):
        self.complains("memory_order_release without", "void f() {\n  a.store(1, std::memory_order_release);\n}\n")

    def test_a_scoped_memory_order_without_a_label_is_refused(self):
        self.complains("without", "void f() {\n  a.store(1, std::memory_order::release);\n}\n")

    def test_builtin_orders_and_barriers_without_a_label_are_refused(self):
        for call in ("__atomic_load_n(p, __ATOMIC_ACQUIRE)", "rte_smp_wmb()", "rte_atomic_thread_fence(2)"):
            self.complains("without", f"void f() {{\n  {call};\n}}\n")

    def test_each_persist_call_without_a_label_is_refused(self):
        for call in ("m.store_release(w, 1)", "m->flush(p, 8)", "m.flush_read(p, 8)", "medium().drain()",
                     "m.compare_exchange(&w, was, now)", "m.compare_exchange(word, was, now)",
                     "persist_range(m, p, n)"):
            self.complains("without", f"void f() {{\n  {call};\n}}\n")

    def test_a_comment_without_a_label_does_not_replace_the_label(self):
        self.complains("without", "void f() {\n  m.drain(); // release, of course\n}\n")

    def test_a_label_in_a_string_does_not_count(self):
        self.complains("without", 'void f() {\n  m.drain("[payload-first]");\n}\n')

    def test_the_label_of_the_statement_before_does_not_count(self):
        self.complains("without", "void f() {\n  m.flush(p, 8); // [payload-first]\n  m.drain();\n}\n")

    def test_a_label_above_with_a_blank_line_between_does_not_count(self):
        self.complains("without", "void f() {\n  // [payload-first]\n\n  m.drain();\n}\n")

    def test_a_label_on_the_line_of_the_call_counts(self):
        self.passes("void f() {\n  a.store(1, std::memory_order_release); // [slot-ready]\n}\n")

    def test_a_label_directly_above_in_a_comment_of_several_lines_counts(self):
        self.passes("void f() {\n  // [slot-ready] and the reader\n  // waits\n"
                    "  a.store(1,\n          std::memory_order_release);\n}\n")

    def test_a_label_on_another_line_of_the_statement_counts(self):
        self.passes("void f() {\n  a.compare_exchange_weak(n, 1, std::memory_order_acq_rel, // [slot-ready]\n"
                    "                          std::memory_order_acquire);\n}\n")

    def test_the_compare_exchange_of_a_map_needs_no_label(self):
        self.passes("void f() {\n  b.compare_exchange(key, was, now);\n}\n")

    def test_orders_in_comments_and_strings_need_no_label(self):
        self.passes('// memory_order_relaxed\nconst char* s = "m.drain()";\n')

    def test_a_label_without_a_row_is_refused(self):
        self.complains("label not-there has no row", "void f() {\n  m.drain(); // [not-there]\n}\n")

    def test_a_lettered_label_is_refused(self):
        for label in ("[R4]", "[V2, in pieces]", "[P1 < P2]"):
            self.complains("is a lettered label", f"void f() {{\n  m.drain(); // [payload-first] {label}\n}}\n")

    def test_a_second_sentence_for_a_label_is_refused(self):
        self.complains("has its sentence in", "void f() {\n  m.drain(); // [payload-first] Crash between: once more.\n}\n")

    def test_a_label_whose_row_is_in_another_folder_counts(self):
        text = SPDX + "#include <x>\nvoid f() {\n  m.drain(); // [payload-first]\n}\n"
        self.assertEqual(orderings(text, path="lib/map/map.cc", **{"lib/ring/ring.cc": TABLE + CODE}), [])

    def test_a_label_with_two_rows_is_refused(self):
        found = orderings(TABLE + CODE, **{"lib/map/map.cc": SPDX + "// Ordering labels:\n//   [slot-ready]  Before.\n"})
        self.assertIn("label slot-ready has a row in lib/ring/ring.cc too", found)

    def row(self, was, now):
        self.assertIn(was, TABLE)
        return orderings(TABLE.replace(was, now) + CODE)

    def test_a_row_that_no_line_of_code_carries_is_refused(self):
        found = orderings(TABLE + CODE.replace(" // [depth-shown]", " // [slot-seen]"))
        self.assertEqual(found, ["label depth-shown has a row and no line of code carries it"])

    def test_a_row_that_is_no_sentence_is_refused(self):
        self.assertEqual(self.row("statistics; it orders nothing.", "statistics; it orders nothing"),
                         ["label depth-shown has a row that is not a full sentence"])

    def test_a_row_without_a_partner_is_refused(self):
        self.assertIn("label payload-first names no partner", self.row("before the slot is", "and the slot is")[0])

    def test_a_partner_without_a_row_is_refused(self):
        self.assertIn("label slot-ready pairs with not-there, which has no row", self.row("with [slot-seen]", "with [not-there]"))

    def test_a_partner_that_does_not_name_the_label_back_is_refused(self):
        self.assertEqual(self.row("pairs with [slot-ready]", "pairs with [slot-seen]"),
                         ["label slot-ready pairs with slot-seen, whose row does not name it back"])

    def test_a_label_without_a_sentence_at_its_code_is_refused(self):
        found = orderings(TABLE + CODE.replace("// [slot-seen] Without it a consumer could read old bytes.", "// [slot-seen]"))
        self.assertEqual(found, ["label slot-seen has no sentence, at any line of code, that says what breaks without it"])

    def test_a_recovery_case_needs_no_partner_and_no_sentence(self):
        table = SPDX + "// Recovery cases:\n//   [index-too-large]  The index lies outside the table: the slot is void.\n#include <x>\n"
        self.assertEqual(orderings(table + "int f(); // [index-too-large]\n"), [])

    def test_a_label_that_a_document_or_a_test_names_has_a_row(self):
        tree = {"lib/ring/ring.cc": TABLE, "docs/a.md": "`[slot-ready]` and [a-link](x)\n\n`[slot-gone]`\n",
                "tests/lib/ring/a.cc": 'stay = {{"[slot-seen]", "x"}, {"[slot-lost]", "y"}};\n'}
        self.assertEqual(lint.check_named_labels(tree), [("docs/a.md", 3, "label slot-gone has no row in any table"),
                                                         ("tests/lib/ring/a.cc", 1, "label slot-lost has no row in any table")])

    def test_a_counter_goes_through_a_helper(self):
        self.passes("void bump(std::atomic<int>& a) noexcept {\n  a.fetch_add(1, std::memory_order_relaxed);\n}\n")

    def test_a_helper_with_another_order_than_relaxed_is_refused(self):
        self.complains("without", "void bump(std::atomic<int>& a) noexcept {\n  a.fetch_add(1, std::memory_order_release);\n}\n")

    def test_a_relaxed_counter_outside_the_helper_is_refused(self):
        self.complains("without", "void bump(std::atomic<int>& a) noexcept {\n  a = 1;\n}\n"
                                  "void g() {\n  a.fetch_add(1, std::memory_order_relaxed); // statistics\n}\n")

    def test_a_call_of_the_helper_exempts_nothing(self):
        self.complains("without", "void g() {\n  if (bump(x)) {\n    a.load(std::memory_order_relaxed);\n  }\n}\n")


class Sizes(unittest.TestCase):
    def test_long_files_and_functions_are_reported_and_fail_nothing(self):
        body = "".join(f"  int a{i} = 0;\n" for i in range(lint.FUNCTION_LINES))
        text = SPDX + "int f(int a,\n      int b) {\n" + body + "}\n" + "\n" * lint.FILE_LINES
        self.assertEqual(lint.check_file("lib/base/x.cc", text), [])
        self.assertEqual(lint.sizes({"lib/base/x.cc": text}),
                         [f"lib/base/x.cc has {text.count(chr(10))} lines",
                          f"lib/base/x.cc:2: f() has {lint.FUNCTION_LINES + 3} lines"])

    def test_short_files_and_functions_are_not_reported(self):
        self.assertEqual(lint.sizes({"lib/base/x.cc": SPDX + "int f() {\n  return 1;\n}\n"}), [])


class Includes(unittest.TestCase):
    def includes(self, path, line):
        return lint.check_includes(path, SPDX + line + "\n", lint.components_of(MESON))

    def test_an_include_of_a_component_that_comes_later_is_refused(self):
        for line in ('#include "map/durable_map.h"', '#include "../map/durable_map.h"', '#include <map/durable_map.h>',
                     '  #  include "map/durable_map.h"'):
            self.assertEqual(len(self.includes("lib/ring/ring.cc", line)), 1, line)

    def uses(self, **files):
        tree = {"lib/base/meson.build": "headers = files('error.h')\n", "lib/mqttsn/meson.build": "uses = ['base']\n",
                "lib/mqttsn/a.cc": '#include "base/error.h"\n', "lib/ring/meson.build": "uses = ['base']\n",
                "lib/ring/ring.cc": '#include "base/error.h"\n'}
        tree.update({k.replace("__", "/").replace("_meson", "/meson.build").replace("_cc", ".cc"): v for k, v in files.items()})
        return [w[2] for w in lint.check_uses(tree, ["base", "ring", "mqttsn"])]

    def test_uses_and_includes_that_agree_pass(self):
        self.assertEqual(self.uses(), [])

    def test_an_include_that_uses_does_not_list_is_refused(self):
        self.assertEqual(self.uses(**{"lib__ring_meson": "uses = []\n"}),
                         ["includes a header of base, which is not in the uses of lib/ring/meson.build"])

    def test_a_use_that_no_file_includes_is_refused(self):
        self.assertEqual(self.uses(**{"lib__ring__ring_cc": "\n"}),
                         ["uses base, and no file of ring includes a header of it"])

    def test_a_component_that_includes_a_front_end_is_refused(self):
        found = self.uses(**{"lib__ring_meson": "uses = ['mqttsn']\n", "lib__ring__ring_cc": '#include "mqttsn/codec.h"\n'})
        self.assertEqual(found, ["ring includes a header of mqttsn: nothing below a front end knows one"])

    def test_an_umbrella_that_lacks_an_installed_header_is_refused(self):
        tree = {"lib/base/meson.build": "headers = files('error.h',\n  'site.h')\n", "lib/mqttsn/meson.build": "headers = files('codec.h')\n",
                "lib/chainring.h": '#include "base/error.h"\n', "lib/broker.h": '#include "mqttsn/codec.h"\n#include "base/site.h"\n'}
        found = [w[2] for w in lint.check_umbrellas(tree, ["base", "mqttsn"])]
        self.assertEqual(found, ["does not include base/site.h, which is installed",
                                 "includes base/site.h, which is not installed or belongs to the other umbrella"])

    def test_a_driver_that_includes_another_driver_is_refused(self):
        def found(line, path="drivers/media/dax/dax.cc"):
            return len(lint.check_driver_includes(path, SPDX + line + "\n"))
        self.assertEqual(found('#include "../file/container.h"'), 1)
        self.assertEqual(found('#include "media/file/file_media.h"'), 1)
        self.assertEqual(found('#include "media/dax/other.h"'), 0)
        self.assertEqual(found('#include "media/container.h"'), 0)
        self.assertEqual(found('#include "other.h"'), 0)
        self.assertEqual(found('#include "media/file/file_media.h"', "tests/lib/media/test_file.cc"), 0)

    def test_a_media_driver_that_includes_a_component_above_media_is_refused(self):
        self.assertEqual(len(self.includes("drivers/media/file/x.cc", '#include "ring/ring.h"')), 1)

    def test_includes_of_earlier_components_of_the_same_one_and_of_the_system_pass(self):
        for line in ('#include "base/error.h"', '#include "../media/media.h"', '#include "ring/ring_media.h"',
                     '#include "ring_media.h"', "#include <map>", "#include <sys/mman.h>"):
            self.assertEqual(self.includes("lib/ring/ring.cc", line), [], line)
        self.assertEqual(self.includes("app/x/main.cc", '#include "map/durable_map.h"'), [])


class Files(unittest.TestCase):
    def complains(self, words, path, text):
        found = [w[2] for w in lint.check_file(path, text)]
        self.assertTrue(any(words in f for f in found), f"expected '{words}', got {found}")

    def test_a_file_without_an_spdx_line_is_refused(self):
        self.complains("SPDX", "lib/base/x.cc", "#include <x>\n")
        self.complains("SPDX", "tests/x.py", "#!/usr/bin/env python3\nimport os\n")
        self.complains("SPDX", "lib/base/x.h", "\n\n" + SPDX)

    def test_a_mark_of_unfinished_work_is_refused(self):
        for mark in ("TO" "DO", "FIX" "ME", "X" "XX"):
            self.complains("unfinished", "lib/base/x.cc", SPDX + f"// {mark}: later\n")
        self.assertEqual(lint.check_file("lib/base/x.cc", SPDX + 'mkdtemp("a' + "X" * 6 + '");\n'), [])

    def test_a_tab_is_refused(self):
        self.complains("tab", "docs/x.md", "a\tb\n")

    def test_a_path_of_one_machine_is_refused(self):
        for path in ("/ho" "me/jo/chainring", "/wo" "rk/main", "/ro" "ot/x"):
            self.complains("path of one machine", "docs/x.md", f"see {path}\n")
        self.assertEqual(lint.check_file("docs/x.md", "/var/lib/chainring and lib/root/x\n"), [])


class MediaStructs(unittest.TestCase):
    GOOD = (SPDX + "struct cell {\n  std::uint64_t state; ///< a; b\n  std::uint64_t key[3];\n"
            "  std::uint32_t value[2][2];\n};\nstatic_assert(sizeof(cell) == 48);\nstatic_assert(offsetof(cell, state) == 0);\n"
            "static_assert(offsetof(cell, key) == 8);\nstatic_assert(offsetof(cell, value) == 32);\n")

    def check(self, text, path="lib/map/map_media.h"):
        return [w[2] for w in lint.check_media_structs(path, text)]

    def test_a_struct_with_all_asserts_passes(self):
        self.assertEqual(self.check(self.GOOD), [])

    def test_a_struct_whose_size_is_not_asserted_is_refused(self):
        self.assertEqual(self.check(self.GOOD.replace("static_assert(sizeof(cell) == 48);\n", "")),
                         ["struct cell: its size is not asserted"])

    def test_a_struct_with_an_offset_that_is_not_asserted_is_refused(self):
        for field in ("state", "key", "value"):
            lines = [l for l in self.GOOD.split("\n") if f"offsetof(cell, {field})" not in l]
            self.assertEqual(self.check("\n".join(lines)), [f"struct cell: the offset of {field} is not asserted"])

    def test_an_assert_in_a_comment_does_not_count(self):
        self.assertEqual(len(self.check(self.GOOD.replace("static_assert(sizeof", "// static_assert(sizeof"))), 1)

    def test_a_struct_that_holds_a_string_is_refused(self):
        self.assertIn("no media type", " ".join(self.check(self.GOOD.replace("std::uint64_t state;", "std::string state;"))))

    def test_the_formats_of_drivers_are_checked_too(self):
        self.assertEqual(len(self.check("struct a {\n  int b;\n};\n", "drivers/media/file/file_format.h")), 2)

    def test_a_struct_that_is_packed_into_a_word_needs_no_asserts(self):
        self.assertEqual(self.check("struct w {\n  bool a = false;\n  static w unpack(int x) { return {}; }\n};\n"), [])


class Program(unittest.TestCase):
    """The script as a program: its exit status and the place it names."""

    def run_on(self, **files):
        with tempfile.TemporaryDirectory() as root:
            for name, text in {"lib/meson.build": MESON, **files}.items():
                os.makedirs(os.path.dirname(os.path.join(root, name)), exist_ok=True)
                with open(os.path.join(root, name), "w") as f:
                    f.write(text)
            return subprocess.run([sys.executable, lint.__file__, root], capture_output=True, text=True)

    def test_a_complaint_names_its_line_and_the_program_fails(self):
        done = self.run_on(**{"lib/none/ring.cc": TABLE + CODE + "void g() {\n  m.drain();\n}\n"})
        self.assertEqual(done.returncode, 1)
        self.assertIn("lib/none/ring.cc:20: drain without a label", done.stdout)

    def test_programs_carry_labels_and_benchmarks_need_none(self):
        code = SPDX + "void g() {\n  a.load(std::memory_order_acquire);\n}\n"
        done = self.run_on(**{"app/x/main.cc": code, "app/chainring-bench/main.cc": code})
        self.assertIn("app/x/main.cc:3: memory_order_acquire without a label", done.stdout)
        self.assertIn("3 files, 1 complaints", done.stdout)

    def test_a_tree_that_is_right_passes(self):
        done = self.run_on(**{"lib/ring/ring.cc": SPDX + "int x;\n"})
        self.assertEqual((done.returncode, done.stdout), (0, "2 files, 0 complaints\n"))


if __name__ == "__main__":
    unittest.main()
