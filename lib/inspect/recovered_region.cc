// SPDX-License-Identifier: BSD-3-Clause
#include "inspect/recovered_region.h"

#include <algorithm>

#include "inspect/inspect.h"

namespace chainring::detail {

namespace {

/// The error for a region that is damaged.
error damaged(const region& r, const std::string& what) {
  return {errc::corrupt, "region " + r.medium().path() + ": it is damaged: " + what +
                             "; 'chainring-region check' names all damage, and 'chainring-region "
                             "salvage' copies what is intact into a new region"};
}

/// What a recovery would give up or repair is not this call's to judge.
result<void> judge(region& r) {
  if (!r.notes().empty()) return damaged(r, r.notes().front());
  if (inspection(r).has_broker()) {
    auto found = store::check(r);
    if (!found) return found.error();
    return found->empty() ? result<void>{} : damaged(r, found->front());
  }
  for (const problem& p : objects::check(r).problems)
    if (p.level != severity::note) return damaged(r, p.text());
  return {};
}

/// The objects of a region, all of which this build must know: chains that only an unknown object
/// names would look free.
result<objects::wanted> all_objects(const region& r) {
  objects::wanted all;
  inspection look(r);
  const std::vector<object_look> there = look.objects();
  for (const region_root& root : r.roots()) {
    const std::string_view name = std::string_view(root.name).substr(0, root.name.find('#'));
    const auto o = std::ranges::find(there, name, &object_look::name);
    auto known = o == there.end() || o->damaged || root.kind == root_kind::area
                     ? nullptr
                     : object_in_words(o->name, o->type, o->version);
    if (known == nullptr)
      return error{errc::unsupported,
                   "region " + r.medium().path() + ": this build does not know what root '" +
                       root.name +
                       "' holds, and so not which blocks it needs; use the version of "
                       "chainring-region that belongs to the program that made it"};
    if (root.name == name) all.push_back(std::move(known));
  }
  return all;
}

} // namespace

result<std::unique_ptr<recovered_region>> recovered_region::open(const media_options& of) {
  media_options o = of;
  o.size = 0;
  o.read_only = true;
  {
    auto r = region::open(o);
    if (!r) return r.error();
    if (auto fine = judge(**r); !fine) return fine.error();
  }
  o.read_only = false;
  auto r = region::open(o);
  if (!r) return r.error();
  return recover(std::move(r).value());
}

result<std::unique_ptr<recovered_region>> recovered_region::recover(std::unique_ptr<region> in) {
  std::unique_ptr<recovered_region> all(new recovered_region);
  if (inspection(*in).has_broker()) {
    broker_config config;
    config.queue_slots_first = 2; // rings that are kept in stock take no room to speak of
    open_summary summary;
    auto opened = store::open(*in, config, {}, summary);
    if (!opened) return opened.error();
    all->region_ = std::move(in);
    all->store_ = std::move(opened).value();
    all->tables_ = {&all->store_->messages()};
    all->notes_ = std::move(summary.notes);
    return all;
  }
  auto wanted = all_objects(*in);
  if (!wanted) return wanted.error();
  auto opened = objects::open(std::move(in), std::move(wanted).value());
  if (!opened) return opened.error();
  all->objects_ = std::move(opened).value();
  all->tables_ = all->objects_->message_tables();
  for (const problem& p : all->objects_->recovered().problems)
    all->notes_.push_back(p.text());
  return all;
}

result<void> recovered_region::close() {
  tables_.clear();
  if (objects_ != nullptr) return objects_->close();
  store_.reset();
  return region_->close();
}

} // namespace chainring::detail
