// Which HIXL the library plays.
#pragma once

namespace fake_hixl {

enum class Flavour { k85, k91, k92Beta1, k92 };

// The 8.5 library is always 8.5; the 9.x one is what FAKE_HIXL_FLAVOUR says.
[[nodiscard]] Flavour flavour();

// Which of the two libraries this is: built.cc.
[[nodiscard]] bool is_built_as_85();

}  // namespace fake_hixl
