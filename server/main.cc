#include "server/app.h"

int main(int argc, char** argv) { return sae::server::CoordinatorMain(argc, argv); }
