// SPDX-License-Identifier: BSD-3-Clause
/// The datagram path of all workers: ports polled, datagrams handed to the worker whose they are,
/// answers sent.
///
/// A port's receive queue is polled by one worker, which hands over what belongs to another through
/// a ring. There is one ring for each worker and interface, so that a worker which cannot answer on
/// one interface goes on taking what came in on the others.
///
/// **Time of reception.** Each datagram carries the TSC at which it was read from its port, however
/// long it then waited in a ring. heard_until() says up to what time a worker has taken everything
/// that came in on an interface: whoever judges a silence compares with that and not with the
/// clock, because what would end the silence may still wait in the port.
///
/// **Frames.** Every frame that waits anywhere has a place in a bounded buffer, and create()
/// refuses a pool that is smaller than the sum of the places. So a datagram that has credit has a
/// frame.
///
/// Thread-safety: a listener belongs to its worker's thread; its counters may be read by any. No
/// allocation after create().
///
///     listener& mine = group->worker(n);
///     bool any = mine.poll(sink);          // in every round
///     any |= handler.end_burst();          // answers go to mine.out()
///     any |= mine.send(medium, rte_rdtsc());
#pragma once
#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "../base/spin_lock.h"
#include "datagram_transport.h"
#include "link.h"

struct rte_ring;

namespace chainring::net {

/// Who takes a worker's datagrams. Called on the worker's thread.
class datagram_sink {
 public:
  virtual ~datagram_sink() = default;
  /// The number of the worker that is to have this datagram.
  virtual unsigned home_of(client_address from, std::span<const std::byte> payload) noexcept = 0;
  /// `received_tsc`: when the datagram was read from its port. The payload is valid during the
  /// call.
  virtual void receive(client_address from, std::span<const std::byte> payload,
                       std::uint64_t received_tsc) noexcept = 0;
};

struct listener_options {
  unsigned workers = 1;
  std::uint32_t tx_capacity = 4096;     ///< frames that wait in one link, a power of two
  std::uint32_t handed_capacity = 1024; ///< datagrams handed over that wait, a worker and interface
  std::uint32_t waiting_max = 65536;    ///< datagrams of one worker's burst
  std::uint16_t descriptors = 1024;     ///< of each queue of a port, received and sent
  rte_mempool* pool = nullptr;
};

class listener_group;

/// One worker's part.
class listener final : public hearing {
 public:
  /// Reads this worker's ports once each and takes what others handed over, as far as there is room
  /// to answer it. True when there was anything.
  bool poll(datagram_sink& sink) noexcept;
  /// Hands to the ports what may leave. True when anything left.
  bool send(media& m, std::uint64_t now_tsc) noexcept;

  [[nodiscard]] datagram_transport& out() noexcept { return *out_; }
  [[nodiscard]] const datagram_transport& out() const noexcept { return *out_; }
  /// The sink has had everything for this worker that was received before this TSC through the
  /// interface the address belongs to; 0: nothing can be said yet.
  [[nodiscard]] std::uint64_t heard_until(client_address from) const noexcept override;

  /// This worker's link on each interface, by interface id.
  [[nodiscard]] std::span<const std::unique_ptr<link>> links() const noexcept { return links_; }
  /// Datagrams given to other workers, and those given up because the other's ring was full.
  [[nodiscard]] std::uint64_t handed_over() const noexcept { return handed_over_.value(); }
  [[nodiscard]] std::uint64_t handed_dropped() const noexcept { return handed_dropped_.value(); }
  /// Announces our addresses on the ports this worker polls. Once.
  void announce() noexcept;

 private:
  friend class listener_group;
  listener(listener_group& group, unsigned number) : group_(&group), number_(number) {}
  bool read_port(std::size_t id, datagram_sink& sink) noexcept;
  bool take_handed(std::size_t id, datagram_sink& sink) noexcept;

  listener_group* group_;
  unsigned number_;
  std::vector<std::unique_ptr<link>> links_;
  std::unique_ptr<datagram_transport> out_;
  std::vector<rte_ring*> handed_;          ///< by interface
  std::vector<std::uint64_t> short_since_; ///< by interface: when a read first came back short
  std::vector<std::uint64_t> heard_until_; ///< by interface
  statistic handed_over_, handed_dropped_;
};

/// The listeners of all workers, and what they share.
class listener_group {
 public:
  /// Frames a pool must have, with `cache_size` objects in each lcore's cache.
  [[nodiscard]] static std::uint32_t frames_needed(std::size_t interfaces,
                                                   const listener_options& options,
                                                   std::uint32_t cache_size) noexcept;
  /// Refuses a missing pool, one that has too few frames, and no workers. The interfaces outlive
  /// the group.
  [[nodiscard]] static result<std::unique_ptr<listener_group>>
  create(std::span<net::interface* const> interfaces, const listener_options& options);
  /// No worker runs any more.
  ~listener_group();
  listener_group(const listener_group&) = delete;
  listener_group& operator=(const listener_group&) = delete;

  [[nodiscard]] listener& worker(unsigned number) noexcept { return *workers_[number]; }
  [[nodiscard]] const listener& worker(unsigned number) const noexcept { return *workers_[number]; }

 private:
  friend class listener;
  struct port_state {
    /// By transmit queue: whose lock it is may use one that several workers share.
    std::unique_ptr<spin_lock[]> tx_locks;
    std::uint16_t tx_queues = 1;
    /// What its reader found there before this TSC has all been read and handed on.
    alignas(cacheline_size) std::atomic<std::uint64_t> emptied_at{0};
  };
  listener_group() = default;

  std::vector<std::unique_ptr<port_state>> ports_; ///< by interface id
  std::vector<std::unique_ptr<listener>> workers_;
  std::uint64_t settle_tsc_ = 0;
};

} // namespace chainring::net
