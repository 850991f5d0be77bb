// SPDX-License-Identifier: BSD-3-Clause
// chainring-region makes, shows and checks regions. The exit status is 0 when it is done or the
// region is clean, 1 when a check or a look found damage or a salvage lost something, and 2 when
// the region cannot be opened or the arguments are wrong.
//
// The commands that look (info, sessions, queues, dump) attach to the region, so they work beside a
// program that has it open. A check takes the lock that keeps owners away, because what an owner is
// storing would look like damage. So does a salvage. A compaction and a change of the size open the
// region as its owner.
#include <algorithm>
#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <string>

#include "base/escape.h"
#include "broker/broker.h"
#include "common/checks.h"
#include "common/parse.h"
#include "common/start.h"
#include "inspect/compact.h"
#include "inspect/salvage.h"
#include "look.h"
#include "objects/objects.h"
#include "region/region.h"

using namespace chainring;
using app::number, app::size_text;

namespace {

constexpr std::size_t sentence_max = 1000; ///< characters of a sentence about damage

int refuse(const error& e, const char* remedy = "") {
  std::fprintf(stderr, "chainring-region: %s%s\n", e.message.c_str(), remedy);
  return 2;
}

bool holds_a_broker(const region& r) {
  for (const region_root& root : r.roots())
    if (root.name.rfind("broker.", 0) == 0) return true;
  return false;
}

int create(const media_options& m, std::uint32_t block_size, const store_layout& layout) {
  region_options o;
  o.media = m;
  o.block_size = block_size;
  o.areas = broker::areas(layout, m.size, block_size);
  auto r = region::create(o);
  std::uint64_t least = areas_offset + block_size;
  for (const area_spec& a : o.areas)
    least += a.size;
  if (!r && least > m.size)
    return refuse(r.error(), "; give a larger --size, or smaller --max-sessions, "
                             "--max-subscriptions, --max-retained, --max-messages");
  if (!r && r.error().code == errc::exists)
    return refuse(r.error(),
                  "; give another path, or remove the file, and with it all that it holds");
  if (!r) return refuse(r.error());
  std::printf("%s: class %s, %" PRIu64 " blocks of %u bytes\n", m.path.c_str(),
              to_string((*r)->medium().durability()), (*r)->geometry().block_count,
              (*r)->geometry().block_size);
  if (auto closed = (*r)->close(); !closed) return refuse(closed.error());
  return 0;
}

int info(const region& r) {
  const region_geometry& g = r.geometry();
  std::printf("path          %s\nclass         %s\ndriver        %s\nuuid          %s\n"
              "size          %" PRIu64 "\nblock size    %u\nblocks        %" PRIu64
              "\nopened        %" PRIu64 " times\nlast closed   %s\n",
              r.medium().path().c_str(), to_string(r.medium().durability()),
              r.medium().driver_name(), r.uuid().c_str(), g.size, g.block_size, g.block_count,
              r.incarnation(),
              r.was_clean() ? "cleanly" : "no: it is in use, or its last use was cut off");
  const auto ranges =
      std::count_if(r.roots().begin(), r.roots().end(),
                    [](const region_root& root) { return root.kind == root_kind::range; });
  std::printf("ranges        %td are named; %zu roots of %u are in use\n", ranges, r.roots().size(),
              root_directory_entries);
  for (const region_root& root : r.roots())
    std::printf("root          %s, version %u: %" PRIu64 " bytes at %" PRIu64 "\n",
                root.name.c_str(), root.version, root.size, root.offset);
  for (const std::string& note : r.notes())
    std::printf("note          %s\n", note.c_str());
  return 0;
}

int check(region& r) {
  std::vector<std::string> wrong = r.notes();
  if (holds_a_broker(r)) {
    auto found = broker::check(r);
    if (!found) {
      wrong.push_back(found.error().message);
    } else {
      wrong.insert(wrong.end(), found->begin(), found->end());
    }
  } else {
    for (const problem& p : objects::check(r).problems)
      if (p.level == severity::note)
        std::printf("%s\n", p.text().c_str());
      else
        wrong.push_back(p.text());
  }
  for (const std::string& sentence : wrong)
    std::printf("%s\n", sentence.c_str());
  std::printf("%s: %s\n", r.medium().path().c_str(), wrong.empty() ? "clean" : "damaged");
  return wrong.empty() ? 0 : 1;
}

int salvage_into(const region& from, const media_options& to) {
  auto report = salvage(from, to);
  if (!report) return refuse(report.error());
  for (const std::string& sentence : report->notes)
    std::printf("note          %s\n", escape(sentence, sentence_max).c_str());
  for (const std::string& sentence : report->lost)
    std::printf("lost          %s\n", escape(sentence, sentence_max).c_str());
  for (const salvaged_kind& k : report->kinds)
    std::printf("%s: %" PRIu64 " arrived, %" PRIu64 " lost\n", escape(k.of).c_str(), k.arrived,
                k.lost);
  std::printf("%s: %s\n", to.path.c_str(),
              report->complete() ? "everything arrived" : "what was intact arrived");
  return report->complete() ? 0 : 1;
}

/// Says how far a compaction is, at once and then about once a second.
compaction_listener progress_of(const media_options& m) {
  using clock = std::chrono::steady_clock;
  return [path = m.path, next = clock::time_point{},
          said = std::uint64_t{0}](const compactor_statistics& s) mutable {
    if (s.moved == said || clock::now() < next) return;
    next = clock::now() + std::chrono::seconds(1);
    said = s.moved;
    std::printf("%s: %" PRIu64 " messages were moved in %" PRIu64 " cycles, and it goes on\n",
                path.c_str(), s.moved, s.cycles);
    std::fflush(stdout);
  };
}

void tell(const media_options& m, const char* when, const block_figures& f) {
  std::printf("%s: %s: %" PRIu64 " of %" PRIu64 " blocks free in %" PRIu64
              " runs, the longest %" PRIu64 ", %.2f chains a message of %" PRIu64 "\n",
              m.path.c_str(), when, f.free_blocks, f.blocks, f.free_runs, f.longest_run,
              f.chains_each(), f.messages);
}

void tell_notes(const compaction_report& report) {
  for (const std::string& sentence : report.notes)
    std::printf("note          %s\n", escape(sentence, sentence_max).c_str());
}

int compact(const media_options& m) {
  auto report = compact_region(m, progress_of(m));
  if (!report) return refuse(report.error());
  tell_notes(*report);
  tell(m, "before", report->before);
  tell(m, "after", report->after);
  std::printf("%s: %" PRIu64 " messages were moved, %" PRIu64 " of them to one chain each\n",
              m.path.c_str(), report->done.moved, report->done.joined);
  if (report->done.unsound != 0)
    std::printf("%s: messages whose content fails its checksum stay where they are; "
                "'chainring-region dump' names them\n",
                m.path.c_str());
  return 0;
}

/// Grows a region in its place, or moves what lies at its end and rewrites it into a shorter file.
int resize(media_options m, std::uint64_t size) {
  std::uint64_t now = 0;
  m.read_only = true;
  {
    auto r = region::open(m);
    if (!r) return refuse(r.error());
    now = (*r)->geometry().size;
  }
  if (size < now) {
    auto moved = empty_end(m, size, progress_of(m));
    if (!moved) return refuse(moved.error());
    tell_notes(*moved);
    if (moved->done.moved != 0)
      std::printf("%s: %" PRIu64 " messages were moved away from its end, %" PRIu64
                  " of them to several chains each\n",
                  m.path.c_str(), moved->done.moved, moved->done.split);
    auto r = region::open(m);
    if (!r) return refuse(r.error());
    if (auto done = shrink(**r, size); !done) return refuse(done.error());
  }
  m.read_only = false;
  if (size > now) {
    m.size = size;
    auto r = region::open(m);
    if (!r) return refuse(r.error());
    if (auto closed = (*r)->close(); !closed) return refuse(closed.error());
  }
  auto r = region::attach(m);
  if (!r) return refuse(r.error());
  std::printf("%s: %" PRIu64 " bytes, %" PRIu64 " before\n", m.path.c_str(), (*r)->geometry().size,
              now);
  return 0;
}

} // namespace

int main(int argc, char** argv) {
  app::start_process();
  CLI::App a{"Make, show and check Chainring regions."};
  a.set_version_flag("--version", "chainring-region " CHAINRING_VERSION);
  a.require_subcommand(1);
  media_options m;
  std::string durability = "auto", target_durability = "auto";
  std::uint32_t block_size = 256;
  store_layout layout;
  auto path = [&](CLI::App* s) {
    s->add_option("path", m.path, "The region's file or device")->required();
    return s;
  };
  CLI::App* make = path(a.add_subcommand("create", "Make a region for the broker"));
  make->add_option("--size", m.size, "Size of the region: bytes, or a number with K, M, G or T")
      ->required()
      ->transform(size_text(areas_offset));
  make->add_option(
          "--journal-size", m.journal_size,
          "Size of the redo journal, for class file only [that of the region, from 1M to 64M]")
      ->transform(size_text(1 << 20));
  make->add_option("--block-size", block_size, "Size of a block in bytes")
      ->check(CLI::IsMember({"64", "128", "256", "512", "1024", "2048", "4096"}))
      ->capture_default_str();
  make->add_option("--class", durability,
                   "Durability class; auto takes the best one that the path allows")
      ->check(CLI::IsMember(durability_choices))
      ->capture_default_str();
  number<std::uint32_t>(*make, "--max-sessions", layout.sessions_max, 1, 4'000'000,
                        "Number of sessions");
  number<std::uint32_t>(*make, "--max-subscriptions", layout.subscriptions_max, 1, 16'000'000,
                        "Number of subscriptions");
  number<std::uint32_t>(*make, "--max-retained", layout.retained_max, 1, 16'000'000,
                        "Number of retained messages");
  number<std::uint32_t>(*make, "--max-messages", layout.messages_max, 0, 1'000'000'000,
                        "Number of messages; 0 means one for every two blocks");
  region_tool::look_options looks;
  auto look = [&](const char* name, const char* what) {
    CLI::App* s = path(a.add_subcommand(name, what));
    s->add_option("--class", durability,
                  "Durability class of the region; auto takes the one of its path")
        ->check(CLI::IsMember(durability_choices))
        ->capture_default_str();
    return s;
  };
  auto records = [&](CLI::App* s) {
    s->add_flag("--json", looks.json, "Print one JSON object a line");
    number<std::size_t>(*s, "--octets", looks.octets, 0, 1 << 20,
                        "Characters to show of an identity, a key or a content at most");
    return s;
  };
  CLI::App* show = look("info", "Show what a region is, also beside a program that uses it");
  CLI::App* sessions =
      records(look("sessions", "Show the sessions and groups of a broker's region"));
  CLI::App* queues =
      records(look("queues", "Show the queues of a region, with what waits in them"));
  CLI::App* dump = records(look("dump", "Show everything in a region"));
  dump->add_flag("--counts", looks.counts, "Leave out subscriptions, messages and entries");
  media_options target;
  CLI::App* save = look("salvage", "Copy what is intact out of a damaged region into a new one");
  save->add_option("to", target.path, "The file of the new region, which must not exist")
      ->required();
  save->add_option("--to-class", target_durability,
                   "Durability class of the new region; auto takes the best one of its path")
      ->check(CLI::IsMember(durability_choices))
      ->capture_default_str();
  std::uint64_t new_size = 0;
  CLI::App* pack = look("compact", "Move the messages of a region that nobody serves together");
  CLI::App* change = look("resize", "Make a region longer, or as short as what lies in it allows");
  change->add_option("--size", new_size, "New size: bytes, or a number with K, M, G or T")
      ->required()
      ->transform(size_text(areas_offset));
  path(a.add_subcommand("check", "Report all damage of a region that no program uses"));
  try {
    app::refuse_unknown(a, argc, argv);
    a.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return a.exit(e) == 0 ? 0 : 2;
  }
  auto asked = parse_durability_choice(durability);
  if (!asked) return refuse(asked.error());
  m.durability = *asked;
  asked = parse_durability_choice(target_durability);
  if (!asked) return refuse(asked.error());
  target.durability = *asked;
  if (make->parsed()) return create(m, block_size, layout);
  if (pack->parsed()) return compact(m);
  if (change->parsed()) return resize(m, new_size);
  const bool looking = show->parsed() || sessions->parsed() || queues->parsed() || dump->parsed();
  m.read_only = true;
  auto r = looking ? region::attach(m) : region::open(m);
  if (!r && r.error().code == errc::not_found)
    return refuse(r.error(), "; make it with 'chainring-region create'");
  if (!r && r.error().code == errc::busy && !looking)
    return refuse(r.error(), "; 'chainring-region dump' shows what lies in it meanwhile");
  if (!r) return refuse(r.error());
  if (show->parsed()) return info(**r);
  if (sessions->parsed()) return region_tool::show_sessions(**r, looks);
  if (save->parsed()) return salvage_into(**r, target);
  if (queues->parsed()) return region_tool::show_queues(**r, looks);
  return dump->parsed() ? region_tool::dump(**r, looks) : check(**r);
}
