// ge::AscendString, compiled with _GLIBCXX_USE_CXX11_ABI=0 as CANN is: whoever looks at the string inside finds another layout.
#include <cstring>

#include "hixl/api.h"

static_assert(_GLIBCXX_USE_CXX11_ABI == 0);

namespace ge {

AscendString::AscendString(const char* text) : text_(text == nullptr ? nullptr : std::make_shared<std::string>(text)) {}

const char* AscendString::GetString() const { return text_ == nullptr ? "" : text_->c_str(); }

std::size_t AscendString::GetLength() const { return text_ == nullptr ? 0 : text_->size(); }

bool AscendString::operator<(const AscendString& other) const { return std::strcmp(GetString(), other.GetString()) < 0; }

}  // namespace ge
