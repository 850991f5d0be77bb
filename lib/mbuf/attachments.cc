// SPDX-License-Identifier: BSD-3-Clause
#include "mbuf/attachments.h"

#include <numeric>
#include <rte_mbuf.h>
#include <rte_ring.h>
#include <string>
#include <utility>
#include <vector>

#include "base/assert.h"
#include "base/value_ring.h"
#include "mbuf/receive_rooms.h"

namespace chainring {
namespace {

constexpr std::uint32_t places_max = 1u << 20;

} // namespace

struct attachments::state {
  /// What an attached mbuf and its clones share.
  struct place {
    rte_mbuf_ext_shared_info shared{};
    state* owner = nullptr;
    attached_piece attached{};
    std::uint32_t number = 0;
  };

  state(const block_store& s, std::uint32_t count)
      : store(s), places(count), free(count),
        // As many entries as places, so that a push never finds it full.
        freed(count, sizeof(std::uint32_t), RING_F_SC_DEQ) {
    std::iota(free.rbegin(), free.rend(), 0u);
    for (std::uint32_t n = 0; n < count; ++n) {
      places[n].owner = this;
      places[n].number = n;
      places[n].shared.free_cb = ended;
      places[n].shared.fcb_opaque = &places[n];
    }
  }
  /// Called by the thread that frees the last mbuf of a place. The ring orders what it has read
  /// before what the collecting thread does with the blocks.
  static void ended(void*, void* opaque) noexcept {
    const auto* const p = static_cast<const place*>(opaque);
    const bool queued = p->owner->freed.push(&p->number);
    CHAINRING_ASSERT(queued);
  }

  const block_store& store;
  std::vector<place> places;
  std::vector<std::uint32_t> free; ///< numbers of places; the last is used next
  value_ring freed;
};

attachments::attachments(std::unique_ptr<state> s) noexcept : state_(std::move(s)) {}

result<std::unique_ptr<attachments>> attachments::create(const block_store& store,
                                                         const attachments_options& options) {
  if (options.places == 0 || options.places > places_max)
    return error{errc::invalid_argument, "attachments: places is " +
                                             std::to_string(options.places) + "; give 1 to " +
                                             std::to_string(places_max)};
  return std::unique_ptr<attachments>(
      new attachments(std::make_unique<state>(store, options.places)));
}

attachments::~attachments() {
  attached_piece rest[32];
  while (collect(rest) != 0) {
  }
  CHAINRING_EXPECTS(pinned_ == 0,
                    "attachments are destroyed while mbufs still point into the region; free those "
                    "mbufs first");
}

bool attachments::attach(rte_mbuf& m, const chain_piece& piece, std::uint64_t token) noexcept {
  CHAINRING_EXPECTS(valid(state_->store, piece), "attach() of octets outside the block store");
  CHAINRING_EXPECTS(
      RTE_MBUF_DIRECT(&m) && rte_mbuf_refcnt_read(&m) == 1,
      "attach() to an mbuf that others hold, or that points elsewhere already; take a "
      "new one from its pool");
  if (state_->free.empty()) return false;
  state::place& p = state_->places[state_->free.back()];
  state_->free.pop_back();
  p.attached = {piece, token};
  rte_mbuf_ext_refcnt_set(&p.shared, 1);
  const std::span<const std::byte> octets = octets_of(state_->store, piece);
  void* const at = const_cast<std::byte*>(octets.data());
  rte_pktmbuf_attach_extbuf(&m, at, detail::iova_of(at), piece.size, &p.shared);
  m.data_len = piece.size;
  m.pkt_len = piece.size;
  ++pinned_;
  return true;
}

std::uint32_t attachments::collect(std::span<attached_piece> out) noexcept {
  std::uint32_t n = 0, number = 0;
  while (n < out.size() && state_->freed.pop(&number)) {
    out[n++] = state_->places[number].attached;
    state_->free.push_back(number); // it has room for every place
  }
  pinned_ -= n;
  return n;
}

} // namespace chainring
