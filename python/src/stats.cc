#include "stats.h"

namespace ray_hixl::python {
namespace {

nb::dict to_dict(const ArenaStats& arena) {
  nb::dict made;
  made["segments"] = arena.segments;
  made["mapped_bytes"] = arena.mapped_bytes;
  made["huge_bytes"] = arena.huge_bytes;
  made["used_bytes"] = arena.used_bytes;
  made["live_blocks"] = arena.live_blocks;
  made["retained_bytes"] = arena.retained_bytes;
  made["allocations"] = arena.allocations;
  made["recycled"] = arena.recycled;
  return made;
}

nb::dict to_dict(const DeviceStats& device) {
  nb::dict made;
  made["device"] = device.device;
  made["unlinkable"] = device.unlinkable;
  made["unpinned"] = device.unpinned;
  made["registrations"] = device.registrations;
  made["unused_bytes"] = device.unused_bytes;
  made["epoch"] = device.epoch;
  made["connects"] = device.connects;
  made["connects_failed"] = device.connects_failed;
  made["disconnects_failed"] = device.disconnects_failed;
  made["refreshes"] = device.refreshes;
  made["links_broken"] = device.links_broken;
  made["links_yielded"] = device.links_yielded;
  made["renewals"] = device.renewals;
  made["retries"] = device.retries;
  made["requests"] = device.requests;
  made["exhausted"] = device.exhausted;
  made["slabs"] = to_dict(device.slabs);
  return made;
}

}  // namespace

nb::dict to_dict(const std::vector<TransportBytes>& counts) {
  nb::dict made;
  for (const TransportBytes& count : counts) made[count.transport.c_str()] = count.bytes;
  return made;
}

nb::dict to_dict(const Stats& stats) {
  nb::dict made;
  made["fetched"] = to_dict(stats.fetched);
  made["staged_mapped_bytes"] = stats.staged_mapped_bytes;
  made["transfers_started"] = stats.transfers_started;
  made["transfers_succeeded"] = stats.transfers_succeeded;
  made["transfers_failed"] = stats.transfers_failed;
  made["transfers_in_flight"] = stats.transfers_in_flight;
  made["quarantined_bytes"] = stats.quarantined_bytes;
  made["regions"] = stats.regions;
  made["objects"] = stats.objects;
  made["objects_published"] = stats.objects_published;
  made["resolved"] = stats.resolved;
  made["served_bytes"] = stats.served_bytes;
  made["links"] = stats.links;
  made["sessions"] = stats.sessions;
  made["links_lost"] = stats.links_lost;
  made["handshakes_refused"] = stats.handshakes_refused;
  made["longest_turn_s"] = stats.longest_turn_s;
  made["source"] = to_dict(stats.source);
  made["landing"] = to_dict(stats.landing);
  nb::list devices;
  for (const DeviceStats& device : stats.devices) devices.append(to_dict(device));
  made["devices"] = devices;
  return made;
}

}  // namespace ray_hixl::python
