// The network card of a device. Its address stands in for one on loopback, where its listen port is really bound.
#pragma once

#include <string>

#include "hixl/endpoints.h"
#include "hixl/flavour.h"
#include "hixl/sockets.h"

namespace fake_hixl {

struct Nic {
  std::string ip;
  Fd listener;
};

// The address of physical device `device`'s card, from hccn.conf; without one there, a stand-in, unless it is needed.
[[nodiscard]] Status find_nic(int device, bool is_needed, Nic& nic);
// `port` 0 is the default one: 16666, or on Ascend950 any free one, which 8.5 does not know yet.
[[nodiscard]] Status listen_at_nic(Soc soc, Flavour flavour, long port, Nic& nic);

}  // namespace fake_hixl
