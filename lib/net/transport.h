// SPDX-License-Identifier: BSD-3-Clause
/// Where a front end's datagrams go. It knows addresses as opaque words, and packets not at all.
#pragma once
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

#include "../media/media.h"

namespace chainring::net {

/// Where a client is, as the transport knows it: equal for equal senders, and never 0.
using client_address = std::uint64_t;

/// One worker's way out. Called on the worker's thread.
class transport {
 public:
  virtual ~transport() = default;
  /// How many more datagrams to `to` can be begun now. begin() never fails while there is credit
  /// and the size is at most what the listener's largest payload is. The default is a transport
  /// that never runs out.
  [[nodiscard]] virtual std::uint32_t credit(client_address to) const noexcept {
    (void)to;
    return std::numeric_limits<std::uint32_t>::max();
  }
  /// Octets of the longest datagram that can be sent to `to`: the interface decides.
  [[nodiscard]] virtual std::size_t size_max(client_address to) const noexcept {
    (void)to;
    return std::numeric_limits<std::size_t>::max();
  }
  /// A place in what waits to leave to `to`, behind all that was released so far; passed() tells
  /// whether all of that has left. The default is a transport where nothing waits.
  [[nodiscard]] virtual std::uint32_t position(client_address to) const noexcept {
    (void)to;
    return 0;
  }
  [[nodiscard]] virtual bool passed(client_address to, std::uint32_t position) const noexcept {
    (void)to;
    return static_cast<std::int32_t>(position) <= 0;
  }
  /// Room for one datagram of up to `size` octets to `to`; empty when nothing can be sent now.
  virtual std::span<std::byte> begin(client_address to, std::size_t size) noexcept = 0;
  /// Sends the first `size` octets of what begin() gave last.
  virtual void commit(std::size_t size) noexcept = 0;
  /// Everything committed since the last call waits for `mark`.
  virtual void release(mark_t mark) noexcept = 0;
};

/// Up to when what came in has been handled. Called on the worker's thread.
class hearing {
 public:
  virtual ~hearing() = default;
  /// The worker has had everything that was received before this TSC from where `from` is; 0:
  /// nothing can be said yet.
  [[nodiscard]] virtual std::uint64_t heard_until(client_address from) const noexcept = 0;
};

} // namespace chainring::net
