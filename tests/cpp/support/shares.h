// What a channel is given of a plan in tests.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "transport/job.h"

namespace ray_hixl::test {

inline std::shared_ptr<const transport::Share> share_of(std::vector<transport::Piece> pieces) {
  auto share = std::make_shared<transport::Share>();
  share->pieces = std::move(pieces);
  return share;
}

}  // namespace ray_hixl::test
