#include "kernels/registry.h"
#include "kernels/ref/ref.h"
namespace fathom {
std::vector<std::string> available_kernels() { return {"ref"}; }
Result<std::unique_ptr<Kernels>> make_kernels(std::string_view, ThreadPool&) { return std::unique_ptr<Kernels>(new RefKernels()); }
}
