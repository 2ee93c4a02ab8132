// The runtime library (libcudart.so.13) as far as a program calls it before main: kernels that nvcc compiled into the
// program (candle has some that paring doesn't use) make themselves known. Nothing is done with them.
extern "C" {
void** __cudaRegisterFatBinary(void*) {
    static void* module;
    return &module;
}
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}
void __cudaRegisterFunction(void**, const char*, char*, const char*, int, void*, void*, void*, void*, int*) {}
void __cudaRegisterVar(void**, char*, char*, const char*, int, unsigned long, int, int) {}
char __cudaInitModule(void**) { return 0; }
}
