// SPDX-License-Identifier: BSD-3-Clause
#include "mqttsn/taking_sink.h"

#include <functional>
#include <rte_mbuf.h>

namespace chainring::mqttsn {

bool taking_sink::take(std::span<const std::byte> content, std::uint32_t front,
                       taken_content& out) noexcept {
  const std::less<const std::byte*> before; // the octets may lie in other memory
  const auto holds = [&](const net::received_datagram& d) {
    return !before(content.data(), d.data) && before(content.data(), d.data + d.size);
  };
  auto at = left_.begin();
  while (at != left_.end() && !holds(*at))
    ++at;
  if (at == left_.end()) return false; // a request that has waited was copied
  left_ = {at, left_.end()};
  rte_mbuf& m = *at->frame;
  const auto* const data = rte_pktmbuf_mtod(&m, const std::byte*);
  // The content lies elsewhere when the mbuf has got another room, or was put together from others.
  if (before(content.data(), data) || before(data + m.data_len, content.data() + content.size()))
    return false;
  const auto from = static_cast<std::uint32_t>(content.data() - data);
  if (m.data_off + from < front) return false;
  chain_piece piece;
  if (rooms_.take(m, from, static_cast<std::uint32_t>(content.size()), piece) != take_status::taken)
    return false;
  // A room is one block, so it begins where the piece's block does.
  out = {{piece.first, 1}, piece.offset};
  return true;
}

} // namespace chainring::mqttsn
