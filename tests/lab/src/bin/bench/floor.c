/* The floors of `make bench`: the least that a program can do that answers a check.
 *   floor listen PORT   accept, write, close, for ever: what the persistent service is measured beside
 *   floor once          write to descriptor 3 or 0: what one process for each check is measured beside
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int count, char **arguments) {
    if (count == 2)
        return write(getenv("LISTEN_FDS") ? 3 : 0, "READY\n", 6) != 6;
    /* As long as patroni-check's own. */
    static const char reply[] = "READY UP # primary timeline 1\n";
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    address.sin_port = htons(atoi(arguments[2]));
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096))
        return 1;
    for (;;) {
        int client = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (client < 0)
            return 1;
        if (write(client, reply, sizeof reply - 1) < 0)
            return 1;
        close(client);
    }
}
