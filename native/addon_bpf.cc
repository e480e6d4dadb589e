#include "addon_bpf.h"

#include "arguments.h"
#include "bpf_call.h"
#include "bpf_loader.h"
#include "xdp_features.h"

namespace lb4 {
namespace {

constexpr size_t MOST_OBJECT = 1 << 20;
constexpr size_t MOST_SETTINGS = 256;
constexpr size_t MOST_PATH = 255;
constexpr size_t MOST_FRAME = 1 << 16;
constexpr size_t MOST_VALUE = 64;
constexpr size_t MOST_ARRAY = 1 << 27;
constexpr size_t MOST_NUMBERS = 64;

std::vector<uint8_t> bytesArgument(const Napi::Value& value, const char* name, size_t least, size_t most) {
  const bool isBytes = value.IsTypedArray() && value.As<Napi::TypedArray>().TypedArrayType() == napi_uint8_array;
  const size_t length = isBytes ? value.As<Napi::Uint8Array>().ElementLength() : 0;
  if (!isBytes || length < least || length > most)
    refuse(value.Env(), std::string(name) + " must be a Uint8Array of " + std::to_string(least) + " to " + std::to_string(most) + " bytes");
  const auto array = value.As<Napi::Uint8Array>();
  return std::vector<uint8_t>(array.Data(), array.Data() + length);
}

int optionalDescriptor(const Napi::Value& value, const char* name) { return value.IsUndefined() ? -1 : descriptor(value, name); }

int32_t ifindexArgument(const Napi::Value& value) { return static_cast<int32_t>(integer(value, "ifindex", 1, MAX_INT)); }

Hook hookArgument(const Napi::Value& value) {
  const std::string name = value.IsString() ? value.As<Napi::String>().Utf8Value() : "";
  if (name == "tcx") return Hook::tcx;
  if (name == "xdp") return Hook::xdp;
  refuse(value.Env(), "hook must be \"tcx\" or \"xdp\"");
}

Napi::Value loadFastPath(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const std::vector<uint8_t> object = bytesArgument(info[0], "object", 1, MOST_OBJECT);
  if (!info[1].IsObject()) refuse(env, "options must be an object");
  const auto options = info[1].As<Napi::Object>();
  const FastPathSizes sizes = {static_cast<uint32_t>(integer(options.Get("flows"), "flows", 1, MAX_INT)),
                               static_cast<uint32_t>(integer(options.Get("hops"), "hops", 1, MAX_INT)),
                               static_cast<uint32_t>(integer(options.Get("syns"), "syns", 1, MAX_INT)),
                               static_cast<uint32_t>(integer(options.Get("drops"), "drops", 1, MAX_INT))};
  const std::vector<uint8_t> settings = bytesArgument(options.Get("settings"), "settings", 1, MOST_SETTINGS);
  const int flows = optionalDescriptor(options.Get("flowsFd"), "flowsFd");
  const int hops = optionalDescriptor(options.Get("hopsFd"), "hopsFd");
  const int counts = optionalDescriptor(options.Get("countsFd"), "countsFd");
  FastPath loaded = guard(env, [&] { return lb4::loadFastPath(object, sizes, settings, flows, hops, counts); });
  Napi::Object result = Napi::Object::New(env);
  const std::pair<const char*, Fd*> parts[] = {{"flows", &loaded.flows}, {"hops", &loaded.hops}, {"counts", &loaded.counts},
                                               {"links", &loaded.links}, {"syns", &loaded.syns}, {"books", &loaded.books},
                                               {"drops", &loaded.drops}, {"tc", &loaded.tc},     {"xdp", &loaded.xdp},
                                               {"tap", &loaded.tap}};
  for (const auto& [name, fd] : parts) result.Set(name, fd->get());
  for (const auto& [name, fd] : parts) fd->release();
  return result;
}

Napi::Value mapIdOf(const Napi::CallbackInfo& info) {
  const int map = descriptor(info[0], "map");
  return Napi::Number::New(info.Env(), guard(info.Env(), [&] { return lb4::mapId(map); }));
}

Napi::Value mapArray(const Napi::CallbackInfo& info) {
  const int map = descriptor(info[0], "map");
  return toBuffer(info.Env(), guard(info.Env(), [&] { return lb4::mapArray(map); }));
}

void pinBpf(const Napi::CallbackInfo& info) {
  const int fd = descriptor(info[0], "fd");
  const std::string path = text(info[1], "path", MOST_PATH);
  guard(info.Env(), [&] { lb4::pinBpf(fd, path); });
}

Napi::Value openPinned(const Napi::CallbackInfo& info) {
  const std::string path = text(info[0], "path", MOST_PATH);
  Fd fd = guard(info.Env(), [&] { return lb4::openPinned(path); });
  return Napi::Number::New(info.Env(), fd.release());
}

Napi::Value linkProgram(const Napi::CallbackInfo& info) {
  const int program = descriptor(info[0], "program");
  const int32_t ifindex = ifindexArgument(info[1]);
  const Hook hook = hookArgument(info[2]);
  if (!info[3].IsUndefined() && !info[3].IsBoolean()) refuse(info.Env(), "isFirst must be a boolean");
  const bool isFirst = info[3].IsBoolean() && info[3].As<Napi::Boolean>();
  Fd link = guard(info.Env(), [&] { return lb4::linkProgram(program, ifindex, hook, isFirst); });
  return Napi::Number::New(info.Env(), link.release());
}

void updateLink(const Napi::CallbackInfo& info) {
  const int link = descriptor(info[0], "link");
  const int program = descriptor(info[1], "program");
  guard(info.Env(), [&] { lb4::updateLink(link, program); });
}

Napi::Value linkedInterface(const Napi::CallbackInfo& info) {
  const int link = descriptor(info[0], "link");
  return Napi::Number::New(info.Env(), guard(info.Env(), [&] { return lb4::linkedInterface(link); }));
}

void detachLink(const Napi::CallbackInfo& info) {
  const int link = descriptor(info[0], "link");
  guard(info.Env(), [&] { lb4::detachLink(link); });
}

Napi::Value tcxPrograms(const Napi::CallbackInfo& info) {
  const int32_t ifindex = ifindexArgument(info[0]);
  const std::vector<uint32_t> ids = guard(info.Env(), [&] { return lb4::tcxPrograms(ifindex); });
  Napi::Array result = Napi::Array::New(info.Env());
  for (const uint32_t id : ids) result.Set(result.Length(), id);
  return result;
}

Napi::Value openLinks(const Napi::CallbackInfo& info) {
  const auto program = static_cast<uint32_t>(integer(info[0], "program", 1, MAX_INT));
  std::vector<Fd> links = guard(info.Env(), [&] { return lb4::openLinks(program); });
  Napi::Array result = Napi::Array::New(info.Env());
  for (Fd& link : links) result.Set(result.Length(), link.release());
  return result;
}

Napi::Value attachClsact(const Napi::CallbackInfo& info) {
  const int program = descriptor(info[0], "program");
  const int32_t ifindex = ifindexArgument(info[1]);
  return Napi::Boolean::New(info.Env(), guard(info.Env(), [&] { return lb4::attachClsact(program, ifindex); }));
}

void detachClsact(const Napi::CallbackInfo& info) {
  const int32_t ifindex = ifindexArgument(info[0]);
  guard(info.Env(), [&] { lb4::detachClsact(ifindex); });
}

template <uint32_t (*ask)(int32_t)>
Napi::Value programOf(const Napi::CallbackInfo& info) {
  const int32_t ifindex = ifindexArgument(info[0]);
  return Napi::Number::New(info.Env(), guard(info.Env(), [&] { return ask(ifindex); }));
}

Napi::Value takesRedirected(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const int32_t ifindex = ifindexArgument(info[0]);
  const std::optional<bool> takes = guard(env, [&] { return lb4::takesRedirected(ifindex); });
  return takes ? Napi::Boolean::New(env, *takes) : env.Undefined();
}

Napi::Value programName(const Napi::CallbackInfo& info) {
  const auto id = static_cast<uint32_t>(integer(info[0], "id", 1, MAX_INT));
  return Napi::String::New(info.Env(), guard(info.Env(), [&] { return lb4::programName(id); }));
}

void setElement(const Napi::CallbackInfo& info) {
  const int map = descriptor(info[0], "map");
  const auto key = static_cast<uint32_t>(integer(info[1], "key", 0, MAX_INT));
  const std::vector<uint8_t> value = bytesArgument(info[2], "value", 1, MOST_VALUE);
  guard(info.Env(), [&] { lb4::setElement(map, key, value); });
}

Napi::Value createArray(const Napi::CallbackInfo& info) {
  const std::vector<uint8_t> bytes = bytesArgument(info[0], "bytes", 1, MOST_ARRAY);
  Fd map = guard(info.Env(), [&] { return lb4::createArray(bytes); });
  return Napi::Number::New(info.Env(), map.release());
}

Napi::Value perCpuSums(const Napi::CallbackInfo& info) {
  const int map = descriptor(info[0], "map");
  const auto key = static_cast<uint32_t>(integer(info[1], "key", 0, MAX_INT));
  const auto count = static_cast<size_t>(integer(info[2], "count", 1, MOST_NUMBERS));
  const std::vector<uint64_t> sums = guard(info.Env(), [&] { return lb4::perCpuSums(map, key, count); });
  Napi::Array result = Napi::Array::New(info.Env(), sums.size());
  for (size_t i = 0; i < sums.size(); i++) result.Set(static_cast<uint32_t>(i), static_cast<double>(sums[i]));
  return result;
}

Napi::Value testRun(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const int program = descriptor(info[0], "program");
  const std::vector<uint8_t> frame = bytesArgument(info[1], "frame", 14, MOST_FRAME);
  const int32_t ifindex = ifindexArgument(info[2]);
  const auto gsoSize = static_cast<uint32_t>(integer(info[3], "gsoSize", 0, 65535));
  const auto repeat = static_cast<uint32_t>(integer(info[4], "repeat", 1, MAX_INT));
  const TestRun run = guard(env, [&] { return lb4::testRun(program, frame, ifindex, gsoSize, repeat); });
  auto out = Napi::Uint8Array::New(env, run.frame.size());
  std::copy(run.frame.begin(), run.frame.end(), out.Data());
  Napi::Object result = Napi::Object::New(env);
  result.Set("verdict", run.verdict);
  result.Set("frame", out);
  result.Set("duration", run.duration);
  return result;
}

void filterBy(const Napi::CallbackInfo& info) {
  const int socket = descriptor(info[0], "socket");
  const int program = descriptor(info[1], "program");
  guard(info.Env(), [&] { lb4::filterBy(socket, program); });
}

}  // namespace

void defineBpf(Napi::Env env, Napi::Object exports) {
  exports.Set("loadFastPath", Napi::Function::New<loadFastPath>(env, "loadFastPath"));
  exports.Set("mapId", Napi::Function::New<mapIdOf>(env, "mapId"));
  exports.Set("mapArray", Napi::Function::New<mapArray>(env, "mapArray"));
  exports.Set("pinBpf", Napi::Function::New<pinBpf>(env, "pinBpf"));
  exports.Set("openPinned", Napi::Function::New<openPinned>(env, "openPinned"));
  exports.Set("linkProgram", Napi::Function::New<linkProgram>(env, "linkProgram"));
  exports.Set("updateLink", Napi::Function::New<updateLink>(env, "updateLink"));
  exports.Set("linkedInterface", Napi::Function::New<linkedInterface>(env, "linkedInterface"));
  exports.Set("detachLink", Napi::Function::New<detachLink>(env, "detachLink"));
  exports.Set("tcxPrograms", Napi::Function::New<tcxPrograms>(env, "tcxPrograms"));
  exports.Set("openLinks", Napi::Function::New<openLinks>(env, "openLinks"));
  exports.Set("attachClsact", Napi::Function::New<attachClsact>(env, "attachClsact"));
  exports.Set("detachClsact", Napi::Function::New<detachClsact>(env, "detachClsact"));
  exports.Set("clsactProgram", Napi::Function::New<programOf<clsactProgram>>(env, "clsactProgram"));
  exports.Set("xdpProgram", Napi::Function::New<programOf<xdpProgram>>(env, "xdpProgram"));
  exports.Set("takesRedirected", Napi::Function::New<takesRedirected>(env, "takesRedirected"));
  exports.Set("programName", Napi::Function::New<programName>(env, "programName"));
  exports.Set("setElement", Napi::Function::New<setElement>(env, "setElement"));
  exports.Set("createArray", Napi::Function::New<createArray>(env, "createArray"));
  exports.Set("perCpuSums", Napi::Function::New<perCpuSums>(env, "perCpuSums"));
  exports.Set("filterBy", Napi::Function::New<filterBy>(env, "filterBy"));
  exports.Set("testRun", Napi::Function::New<testRun>(env, "testRun"));
}

}  // namespace lb4
