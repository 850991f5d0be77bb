// SPDX-License-Identifier: BSD-3-Clause
/// Internal to the broker: the room for a batch of changes of a durable map, which most bursts do
/// not need.
#pragma once
#include <memory>
#include <utility>

#include "map/durable_map.h"

namespace chainring {

/// Room for a batch of changes, like std::optional, which clears the room of each burst that needs
/// none.
class burst_cells {
 public:
  burst_cells() noexcept {} // NOLINT: the batch is not made yet
  ~burst_cells() { reset(); }
  burst_cells(const burst_cells&) = delete;
  burst_cells& operator=(const burst_cells&) = delete;
  void emplace(durable_map& map) noexcept {
    reset(); // the batch of the burst before
    std::construct_at(&batch_, map);
    made_ = true;
  }
  void reset() noexcept {
    if (std::exchange(made_, false)) std::destroy_at(&batch_);
  }
  explicit operator bool() const noexcept { return made_; }
  durable_map::batch* operator->() noexcept { return &batch_; }

 private:
  union {
    durable_map::batch batch_;
  };
  bool made_ = false;
};

} // namespace chainring
