/* The floors of `make bench`: the least that a program can do that answers a check.
 *   floor listen PORT   accept, write, close, for ever: what the persistent service is measured beside
 *   floor patroni PORT  accept, read, write, close: a Patroni whose own time hides nothing
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
    /* As long as patroni-check's own, and as Patroni's. */
    static const char line[] = "READY UP # primary timeline 1\n";
    static const char answer[] = "HTTP/1.0 200 OK\r\nServer: BaseHTTP/0.6 Python/3.11.2\r\n"
        "Date: Thu, 01 Jan 2026 00:00:00 GMT\r\nContent-Type: application/json\r\n\r\n"
        "{\"state\": \"running\", \"postmaster_start_time\": \"2026-01-01 00:00:00.000000+00:00\", \"role\": \"primary\", "
        "\"server_version\": 150010, \"xlog\": {\"location\": 67419640}, \"timeline\": 1, \"dcs_last_seen\": 1767225600, "
        "\"database_system_identifier\": \"7500000000000000000\", \"patroni\": {\"version\": \"3.0.2\", \"scope\": \"demo\"}}";
    int is_asked = !strcmp(arguments[1], "patroni");
    const char *reply = is_asked ? answer : line;
    size_t length = is_asked ? sizeof answer - 1 : sizeof line - 1;
    char request[4096];
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
        if ((!is_asked || read(client, request, sizeof request) > 0) && write(client, reply, length) < 0)
            return 1;
        close(client);
    }
}
