// SPDX-License-Identifier: BSD-3-Clause
/// A region of a broker, or of named objects, that nobody serves, opened by a tool. Internal to
/// lib/inspect.
///
/// The ordinary recovery of an open has run, so every live block is known to the block store. What
/// an open leaves out is left out: sessions that end with their connection, and expired ones.
///
/// **Thread-safety:** one thread.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "block/block_store.h"
#include "broker/store.h"
#include "message/message.h"
#include "objects/objects.h"
#include "region/region.h"

namespace chainring::detail {

class recovered_region {
 public:
  /// Opens the region at of.path as its owner, with the lock. Errors: those of region::open();
  /// corrupt where the region is damaged, because a recovery would give up what is damaged;
  /// unsupported where something in it may name blocks and this build does not know which. Then
  /// nothing in the region has changed.
  [[nodiscard]] static result<std::unique_ptr<recovered_region>> open(const media_options& of);
  /// The same with a region that is open for writing and was judged.
  [[nodiscard]] static result<std::unique_ptr<recovered_region>>
  recover(std::unique_ptr<region> in);

  [[nodiscard]] region& where() noexcept {
    return region_ != nullptr ? *region_ : objects_->region();
  }
  [[nodiscard]] block_store& blocks() noexcept {
    return store_ != nullptr ? store_->blocks() : objects_->blocks();
  }
  [[nodiscard]] const std::vector<message_table*>& tables() const noexcept { return tables_; }
  /// What the recovery had to say.
  [[nodiscard]] const std::vector<std::string>& notes() const noexcept { return notes_; }
  /// Makes everything durable and closes the region.
  [[nodiscard]] result<void> close();

 private:
  std::unique_ptr<region> region_; ///< null: the objects have it
  std::unique_ptr<store> store_;   ///< null: it is no broker's
  std::unique_ptr<objects> objects_;
  std::vector<message_table*> tables_;
  std::vector<std::string> notes_;
};

} // namespace chainring::detail
