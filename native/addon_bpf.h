// The part of the export table that is about BPF.
#pragma once

#include <napi.h>

namespace lb4 {

void defineBpf(Napi::Env env, Napi::Object exports);

}  // namespace lb4
