// SPDX-License-Identifier: BSD-3-Clause
// Retained messages in a burst: the cells that it changes, and what becomes of them.
//
//   publish()          claims the topic and matches (publish.cc)
//   store_cells()      stores each cell as {new message, the topic's message so far}, before
//                      anything is placed in a queue
//   the first drain    covers the cells; the topics' messages are still those of before
//   the second drain   covers the descriptors, whose commit words make the new messages count
//   finish_retained()  ends the claims and drops the references that the cells hold no longer
//
// The cell of a tombstone, or of a message that was refused behind store_cells() or lies in lost
// memory, is tidied up in the worker's next burst: it is erased, or stored without that message.
// The topic stays claimed until then.
//
// Its ordering label [place-before-publish] is described in burst.cc.
//
// Ordering labels:
//   [cell-before-drop]  A cell is drained before the messages that it names no longer lose its
//     references.
//   [claim-before-match]  A publisher claims its topic, makes a full fence and matches the filters;
//     pairs with [indexed-before-scan].
#include <algorithm>

#include "base/hook.h"
#include "broker/worker_state.h"

namespace chainring {

namespace {
/// How long a topic is kept for a waiter whose turn it is: a twentieth of a second, in which its
/// worker has many bursts.
constexpr std::uint64_t turn_hz = 20;
} // namespace

// Gives a claim up that has stored no cell.
void broker_worker::state::give_up_claim(staged_publish& p) noexcept {
  if (p.retained == none) return;
  common.retained->abandon(p.retained);
  p.retained = none;
}

// Drops the reference of a word that no cell has any longer.
// [cell-before-drop] Crash between: the cell is as it was, and its messages are whole.
void broker_worker::state::drop_named(std::uint64_t word) noexcept {
  if (word != 0) durable.messages().drop_reference(slot_ref(word).message().index);
}

// Who asks for a claim on behalf of this worker.
retained_table::asker broker_worker::state::asker_for(claim_party party) const noexcept {
  // A program without EAL does not know the frequency of its clock.
  const std::uint64_t hz = tsc_hz != 0 ? tsc_hz : 1'000'000'000;
  return {.party =
              static_cast<std::uint16_t>(claim_parties * number + static_cast<unsigned>(party)),
          .newcomer = false,
          .stays = true,
          .now_tsc = now_tsc,
          .patience_tsc = hz / turn_hz};
}

// Stages what operators have asked for. A topic that is claimed is tried again in the next burst.
void broker_worker::state::clear_retained() noexcept {
  std::erase_if(clears, [&](const operator_request& r) {
    retained_table::claim c;
    const auto status =
        common.retained->take(r.identity, 0, true, asker_for(claim_party::operators), c);
    if (status == retained_table::claim_status::wait) return false;
    r.reply->found = status == retained_table::claim_status::claimed;
    r.reply->messages = r.reply->found ? 1 : 0;
    r.reply->finish();
    if (!r.reply->found) return true;
    staged_publish p;
    p.retained = c.entry;
    p.retained_before = c.before;
    p.erases = true;
    staged.push_back(p);
    return true;
  });
}

void broker_worker::state::store_cell(staged_publish& p) noexcept {
  const auto key = bytes_of(common.retained->topic(p.retained));
  map_status stored;
  if (p.erases) {
    stored = (*retained_cells)->erase(key);
  } else {
    // Crash behind the drain: the cell names a message that is not published, so the topic's
    // message is still the one of before. [place-before-publish]
    const retained_value value = {retained_word(p.content.ref, p.content.fields.qos),
                                  seeded_bug("broker.retained_before_lost") ? 0
                                                                            : p.retained_before};
    stored = (*retained_cells)->upsert(key, bytes_of(value));
  }
  p.cell_stored = stored == map_status::done;
  if (p.cell_stored && !p.erases) durable.messages().add_references(p.content.ref.index, 1);
  if (p.cell_stored) return;
  p.refused = true; // the region has no blocks for a long topic name
  any_refused = true;
  if (p.will_of == none) ++count.retained_refused;
}

// Stores all cells of the burst. A publish whose cell cannot be stored is refused before it is
// placed anywhere.
void broker_worker::state::store_cells() noexcept {
  bool any = !tidy.empty();
  for (const staged_publish& p : staged)
    any |= p.retained != none;
  if (!any) return;
  retained_cells->emplace(durable.retained());
  // These come first and are at most as many as the batch holds, so none of them commits it.
  tidied_now = static_cast<std::uint32_t>(std::min(tidy.size(), durable_map::batch::changes_max));
  for (std::uint32_t i = 0; i < tidied_now; ++i) {
    const std::uint32_t entry = tidy[i];
    const retained_value value = common.retained->tidy_value(entry);
    const auto key = bytes_of(common.retained->topic(entry));
    if (value.candidate == 0)
      (void)(*retained_cells)->erase(key); // of a tombstone
    else
      (void)(*retained_cells)->upsert(key, bytes_of(value)); // without the one refused
  }
  for (staged_publish& p : staged) {
    if (p.retained == none) continue;
    store_cell(p);
    if (p.refused) p.places = 0; // collect_groups() leaves its targets out
  }
}

// Behind the drains: the cells of the burst are durable.
void broker_worker::state::finish_cells() noexcept {
  for (std::uint32_t i = 0; i < tidied_now; ++i) {
    const retained_value named = common.retained->tidied(tidy[i]);
    if (!seeded_bug("broker.tombstone_freed_first")) drop_named(named.candidate);
    drop_named(named.current);
  }
  tidy.erase(tidy.begin(), tidy.begin() + tidied_now); // the rest is for the next burst
  tidied_now = 0;
}

// Behind the drains: ends the claim of a publish. Its own reference is dropped by the caller.
void broker_worker::state::finish_retained(staged_publish& p) noexcept {
  if (p.retained == none) return;
  retained_table& table = *common.retained;
  if (!p.cell_stored) return give_up_claim(p);
  if (p.erases) {
    const retained_value named = table.erased(p.retained);
    drop_named(named.candidate);
    drop_named(named.current);
    ++count.retained_cleared;
    return;
  }
  const message_fields& f = p.content.fields;
  // A message in lost memory is not acknowledged, so it does not replace one that was.
  if (p.refused || p.lost) {
    if (p.lost) ++count.retained_refused;
    drop_named(table.refuse(p.retained, retained_word(p.content.ref, f.qos)));
    tidy.push_back(p.retained);
    return;
  }
  ++(f.payload_size != 0 ? count.retained : count.retained_cleared);
  drop_named(table.accept(p.retained,
                          {p.content.ref, f.qos, f.payload_size, f.published_ns, 0, f.expires_ns},
                          p.matched_version));
  if (f.payload_size != 0) return;
  if (seeded_bug("broker.tombstone_freed_first"))
    durable.messages().drop_reference(p.content.ref.index);
  tidy.push_back(p.retained);
}

} // namespace chainring
