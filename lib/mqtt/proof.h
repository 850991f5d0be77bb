// SPDX-License-Identifier: BSD-3-Clause
/// CONNECT packets that wait for the check of their passwords. Internal to lib/mqtt.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "access/password_file.h"
#include "stream/helper_crew.h"
#include "stream/host_turns.h"

namespace chainring::mqtt {

/// Gives the checks to helpers, and tells `decided` of each that was made. There is at most one for
/// each connection.
///
/// A check takes milliseconds, and whoever connects causes one. So hosts take turns, and each has
/// its own line: a host that sends thousands of wrong passwords waits for itself. Only few checks
/// are with the helpers at one time, because there they are in one line.
///
/// Thread-safety: one thread makes all calls.
class proof_desk {
 public:
  struct proof final : stream::helper_crew::job {
    proof_desk* desk = nullptr;
    std::uint32_t connection = 0, life = 0;
    std::uint64_t host = 0; ///< of the client (net::host_of)
    std::shared_ptr<const access::password_file> file;
    std::string user;
    std::vector<std::byte> password, packet; ///< the whole CONNECT
    bool good = false;

    void run() noexcept override { good = file->matches(user, password); }
    void finish() noexcept override { desk->finished(*this); }
  };
  class listener {
   public:
    virtual ~listener() = default;
    /// True when the connection is still there, so that the check is worth its time.
    [[nodiscard]] virtual bool awaits(const proof& p) const noexcept = 0;
    virtual void decided(proof& p) noexcept = 0;
  };

  void open(stream::helper_crew& crew, listener& told) noexcept {
    crew_ = &crew;
    told_ = &told;
  }
  void ask(std::unique_ptr<proof> p) {
    p->desk = this;
    const std::uint64_t host = p->host;
    (void)waiting_.add(host, std::move(p));
    submit();
  }
  /// Goes on with what waits. Returns true when there was anything to do.
  bool poll() noexcept { return waiting_.size() != 0 && submit(); }
  [[nodiscard]] std::size_t waiting() const noexcept { return waiting_.size(); }

 private:
  bool submit() noexcept {
    bool any = false;
    // Two for each helper, so that none waits for the next round of the worker.
    while (waiting_.size() != 0 && under_way_.size() < 2 * std::size_t{crew_->threads()} &&
           crew_->has_room()) {
      std::unique_ptr<proof> p = waiting_.take();
      any = true;
      if (!told_->awaits(*p)) {
        told_->decided(*p);
        continue;
      }
      (void)crew_->submit(*p); // there is room
      under_way_.push_back(std::move(p));
    }
    return any;
  }
  void finished(proof& p) noexcept {
    for (std::unique_ptr<proof>& one : under_way_)
      if (one.get() == &p) {
        const std::unique_ptr<proof> mine = std::move(one);
        one = std::move(under_way_.back());
        under_way_.pop_back();
        told_->decided(*mine);
        return;
      }
  }

  stream::helper_crew* crew_ = nullptr;
  listener* told_ = nullptr;
  stream::host_turns<std::unique_ptr<proof>> waiting_;
  std::vector<std::unique_ptr<proof>> under_way_;
};

} // namespace chainring::mqtt
