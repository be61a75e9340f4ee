// The FAKE HIXL: a stand-in for libcann_hixl.so over the FAKE CANN runtime, for tests on machines without an NPU.
//
// It moves real bytes between real processes of one machine, and keeps the rules of the real library where they are known; where two
// readings are possible it takes the stricter one and says so in a comment. Written from facts about the interface; shares no code with the
// product. Version texts and messages (aclGetRecentErrMsg) say FAKE.
//
// A peer's device memory is read and written through /proc/<pid>/fd/<fd> of its heap, its host memory with process_vm_readv/writev. Each
// link has a worker thread that does its transfers one after another: the model of a link's stream. Every registration has a key in memory
// that its process shares; a transfer into a region that its owner deregistered or freed fails, as on a NIC.
//
// Not modelled, and refused where it is asked for: FabricMem, staging of unregistered memory (BufferPool), notifies, eviction of channels,
// regions that span several physical allocations, engines without a device. Not modelled at all: heartbeats, hccn_tool, and that a thread
// without a context keeps HIXL's own.
//
// On HixlEngine requests are told of by the notify of a slot, as in the real one, with what is wrong there from 9.1 to 9.2. A channel
// records the notify when a request's bytes have moved, and the slot's stream waits for a record, whosever it is. Disconnect, and a
// TransferSync that times out, abort the slot: its stream, then its notify, then its thread; only then does Disconnect end the channel. So
//   - a request that ends in between leaves a record in a slot that others get next: each of their requests is then told COMPLETED one too
//     early, with its bytes still on their way, until the last engine of the process on the device goes;
//   - Disconnect aborts once for each request that was not polled to its end, by the slot's number: another link that has it by then waits
//     for ever, and what it starts next answers 107003.
// Slots go round: the one that has been free for longest is taken. Two of the switches below make the moments in between long. What 8.5
// does there is not known, nor what CommEngine does: both tell of a request when its own bytes have moved.
//
// Each request takes a page of 2 MiB of its device for its descriptors until its end was polled, or its link disconnected; where there is
// none, the call answers 207018 and the link works on. CommEngine: not modelled.
//
// An Initialize that cannot listen at the engine's address leaves its slots behind, and 2 MiB of the device each time. 9.1's HixlEngine
// takes the port of the network card when somebody first connects to it, and refuses everybody with 503900 where it is taken; what the real
// one answers is not known. The cap on registered memory (50 GB on A2 and A3) is not modelled.
//
// Two libraries: lib/hixl/libcann_hixl.so is 9.x, lib/hixl85/libcann_hixl.so is 8.5 and lacks what came with 9.1. The port of a device's
// network card is really taken, at an address of loopback that is made from the card's: tests that run at once and need the default port
// 16666 (Ascend910, and always 8.5) give each its own addresses with FAKE_HIXL_HCCN_CONF.
//
// Switches, read from the environment when they are first needed, and settable at run time (fake_hixl_set).
// What is modelled:
//   FAKE_HIXL_FLAVOUR=9.2            9.2, 9.2-beta.1 or 9.1: what the 9.x library is
//   FAKE_HIXL_HCCN_CONF=/etc/hccn.conf   where the address of a device's NIC is found (address_N=); needed on Ascend910
//                                    for RoCE that the caller did not list, and by CommEngine
//   FAKE_HIXL_REQUIRE_ALIGNED=0      1: device regions must start at 2 MiB and be on 2 MiB pages, as HCCS wants them
//   FAKE_HIXL_RETRY_MS=100           how long a transfer to a dead peer lasts until it fails
// Faults. Transfers are numbered as they are asked for, from 1, or from when the switch was set; <which> is a list "2,5" or "*" for every
// one:
//   FAKE_HIXL_CONNECT_DELAY_MS=<ms> or <ip:port>=<ms>,...   Connect takes so much longer (within its timeout)
//   FAKE_HIXL_STAGE_DELAY_MS=0           each of HixlEngine's five stages of a Connect takes so much longer, within the whole time-out each
//   FAKE_HIXL_REFUSE_CONNECT=<n>         the next n Connects answer 503900, as where the reader's network card has no completion queue left
//   FAKE_HIXL_DISCONNECT_DELAY_MS=<ms> or <ip:port>=<ms>,...   Disconnect holds the link's lock so much longer before it does anything
//   FAKE_HIXL_FAIL_INITIALIZE=<cause> or <cause>:<n>   (the first n times) Initialize answers 503900 and says why in the text: kernel,
//                                        endpoint, stream or device_ip
//   FAKE_HIXL_ABORT_HOLD_MS=0            to free the thread of a slot that is aborted takes so much longer; all slots of the device are
//                                        locked meanwhile, and what is under way goes on
//   FAKE_HIXL_ABORT_GAP_MS=0             so much time is between an abort and what its caller does next: another abort, or the end of
//                                        the channel
//   FAKE_HIXL_TRANSFER_DELAY_US=<us>     every transfer's bytes move so much later
//   FAKE_HIXL_FAIL_AT=<which>:call:<status>    the call answers <status> and nothing moves
//   FAKE_HIXL_FAIL_AT=<which>:poll             nothing moves; the poll says (0, FAILED)
//   FAKE_HIXL_FAIL_AT=<which>:error:<status>   nothing moves; the poll says (<status>, FAILED)
//   FAKE_HIXL_EXHAUST=<n>                n transfers in a row answer 203900
//   FAKE_HIXL_DROP_LINK_AT=<which>       the link breaks under the transfer
//   FAKE_HIXL_GARBLE_AT=<which>          one delivered byte is wrong
//   FAKE_HIXL_SHORT_AT=<which>           half of the bytes move, then it fails
//   FAKE_HIXL_NEVER_AT=<which>           it waits for ever, and what follows on the link behind it
//   FAKE_HIXL_DIE_AT=<which>             the process ends with 88 when half of the bytes moved
//   FAKE_HIXL_LATE_MS=<ms>               the bytes of a transfer that failed, timed out or waits for ever arrive so much later after all; a
//                                        Disconnect that comes first lets them arrive before it returns
//   FAKE_HIXL_LATE_PAST_DISCONNECT=0     1: they arrive even after Disconnect
// With FAKE_CANN_STRICT=1 the process ends with 87 at what no caller may do: calls from a thread without a context, Initialize twice,
// Finalize while another call runs, freeing memory that is registered while a link is up.
#pragma once

#include <cstdint>

extern "C" {

const char* fake_hixl_version(void);

// Sets a switch by its name; null sets it back to what the environment says.
void fake_hixl_set(const char* name, const char* value);
void fake_hixl_reset_switches(void);

// Calls of a method by its name ("Connect", "TransferAsync", "GetTransferStatus"; "GetTransferStatusBatch" and "GetAsyncConnectStatusAll"
// are the second ones of two); all if `name` is null.
std::uint64_t fake_hixl_calls(const char* name);
// Descriptors and bytes that were moved, and the time that workers spent moving them, summed.
std::uint64_t fake_hixl_ops(void);
std::uint64_t fake_hixl_bytes(void);
std::uint64_t fake_hixl_busy_ns(void);
// Requests that their link came to: from then on their bytes are on their way, until Disconnect ends the channel.
std::uint64_t fake_hixl_launches(void);
// Requests that were told COMPLETED by a record that was not theirs.
std::uint64_t fake_hixl_early_completions(void);
// Records of requests whose slot had been aborted.
std::uint64_t fake_hixl_stray_records(void);
// Aborts of slots, and those that hit a slot which another link had.
std::uint64_t fake_hixl_aborts(void);
std::uint64_t fake_hixl_aborts_of_others(void);
void fake_hixl_reset_counters(void);

// What lives in this process now. Links are outbound ones, dead ones among them.
std::uint64_t fake_hixl_live_engines(void);
std::uint64_t fake_hixl_links(void);
std::uint64_t fake_hixl_inbound_links(void);
std::uint64_t fake_hixl_regions(void);
// Slots of all devices; those that links have; and those with a record that nobody waits for, which the next request will take for its own.
std::uint64_t fake_hixl_slots(void);
std::uint64_t fake_hixl_taken_slots(void);
std::uint64_t fake_hixl_tainted_slots(void);

}  // extern "C"
