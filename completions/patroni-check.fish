# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_patroni_check_global_optspecs
    string join \n instance= patroni= endpoint= connection= also= listen= words= on-failure= on-standby= calm= probe= deadline= max-age= grace= cacert= cert= key= insecure hold-file= h/help V/version
end

function __fish_patroni_check_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_patroni_check_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_patroni_check_using_subcommand
    set -l cmd (__fish_patroni_check_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c patroni-check -n "__fish_patroni_check_needs_command" -l instance -d 'One of several clusters on this host' -r
complete -c patroni-check -n "__fish_patroni_check_needs_command" -l patroni -d 'Patroni\'s REST API' -r
complete -c patroni-check -n "__fish_patroni_check_needs_command" -l endpoint -d 'Endpoint to answer for' -r
complete -c patroni-check -n "__fish_patroni_check_needs_command" -l connection -d 'What a passed connection is for' -r
complete -c patroni-check -n "__fish_patroni_check_needs_command" -l also -d 'More endpoints that a check may name' -r
complete -c patroni-check -n "__fish_patroni_check_needs_command" -l listen -d 'Listen on this address and port' -r
complete -c patroni-check -n "__fish_patroni_check_needs_command" -l words -d 'Reply format: full or plain' -r -f -a "full\t'Two words and the reason: MAINT UP # replica streaming'
plain\t'One word: READY or MAINT'"
complete -c patroni-check -n "__fish_patroni_check_needs_command" -l on-failure -d 'Reply if broken: maint, down, drain or silent' -r -f -a "maint\t'In maintenance'
down\t'Down, which alarms'
drain\t'No new sessions, and none is cut'
silent\t'Nothing: HAProxy keeps the last state'"
complete -c patroni-check -n "__fish_patroni_check_needs_command" -l on-standby -d 'Reply on standby: maint, drain or down' -r -f -a "maint\t'In maintenance, which no monitoring takes for a fault'
drain\t'A replica gets no new sessions and keeps its old ones'
down\t'Down'"
complete -c patroni-check -n "__fish_patroni_check_needs_command" -l calm -d 'Keep a replica away this long' -r
complete -c patroni-check -n "__fish_patroni_check_needs_command" -l probe -d 'Probe Postgres or PgBouncer here' -r
complete -c patroni-check -n "__fish_patroni_check_needs_command" -l deadline -d 'Answer each check within this time' -r
complete -c patroni-check -n "__fish_patroni_check_needs_command" -l max-age -d 'Reuse Patroni\'s answer this long' -r
complete -c patroni-check -n "__fish_patroni_check_needs_command" -l grace -d 'Keep the verdict if Patroni is silent' -r
complete -c patroni-check -n "__fish_patroni_check_needs_command" -l cacert -d 'Trust these authorities for Patroni' -r -F
complete -c patroni-check -n "__fish_patroni_check_needs_command" -l cert -d 'Our certificate for Patroni' -r -F
complete -c patroni-check -n "__fish_patroni_check_needs_command" -l key -d 'Key of our certificate' -r -F
complete -c patroni-check -n "__fish_patroni_check_needs_command" -l hold-file -d 'Answer MAINT or DRAIN while this file exists' -r -F
complete -c patroni-check -n "__fish_patroni_check_needs_command" -l insecure -d 'Accept any certificate from Patroni'
complete -c patroni-check -n "__fish_patroni_check_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c patroni-check -n "__fish_patroni_check_needs_command" -s V -l version -d 'Print version'
complete -c patroni-check -n "__fish_patroni_check_needs_command" -f -a "explain" -d 'Show what this node answers on each endpoint, and why'
complete -c patroni-check -n "__fish_patroni_check_needs_command" -f -a "haproxy-config" -d 'Write an HAProxy configuration for this cluster'
complete -c patroni-check -n "__fish_patroni_check_needs_command" -f -a "is" -d 'Say by the exit status whether this node may take the traffic'
complete -c patroni-check -n "__fish_patroni_check_needs_command" -f -a "hold" -d 'Answer checks with MAINT or DRAIN until `release`'
complete -c patroni-check -n "__fish_patroni_check_needs_command" -f -a "instances" -d 'Show this host\'s clusters, and what to enable for each'
complete -c patroni-check -n "__fish_patroni_check_needs_command" -f -a "release" -d 'End holds'
complete -c patroni-check -n "__fish_patroni_check_using_subcommand explain" -l instance -d 'One of several clusters on this host' -r
complete -c patroni-check -n "__fish_patroni_check_using_subcommand explain" -l patroni -d 'Patroni\'s REST API' -r
complete -c patroni-check -n "__fish_patroni_check_using_subcommand explain" -l cacert -d 'Trust these authorities for Patroni' -r -F
complete -c patroni-check -n "__fish_patroni_check_using_subcommand explain" -l cert -d 'Our certificate for Patroni' -r -F
complete -c patroni-check -n "__fish_patroni_check_using_subcommand explain" -l key -d 'Key of our certificate' -r -F
complete -c patroni-check -n "__fish_patroni_check_using_subcommand explain" -l hold-file -d 'Answer MAINT or DRAIN while this file exists' -r -F
complete -c patroni-check -n "__fish_patroni_check_using_subcommand explain" -l json -d 'Print JSON, for scripts'
complete -c patroni-check -n "__fish_patroni_check_using_subcommand explain" -l settings -d 'Only try the service\'s settings'
complete -c patroni-check -n "__fish_patroni_check_using_subcommand explain" -l insecure -d 'Accept any certificate from Patroni'
complete -c patroni-check -n "__fish_patroni_check_using_subcommand explain" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c patroni-check -n "__fish_patroni_check_using_subcommand haproxy-config" -l format -d 'Format: haproxy or json' -r -f -a "haproxy\t'A commented configuration'
json\t'The members, for templates'"
complete -c patroni-check -n "__fish_patroni_check_using_subcommand haproxy-config" -l http-port -d 'The port of the HTTP checks' -r
complete -c patroni-check -n "__fish_patroni_check_using_subcommand haproxy-config" -l name -d 'Prefix of the backends\' names' -r
complete -c patroni-check -n "__fish_patroni_check_using_subcommand haproxy-config" -l read-write -d 'Where writing clients connect' -r
complete -c patroni-check -n "__fish_patroni_check_using_subcommand haproxy-config" -l read-only -d 'Where reading clients connect' -r
complete -c patroni-check -n "__fish_patroni_check_using_subcommand haproxy-config" -l agent-port -d 'The agent\'s port for writes' -r
complete -c patroni-check -n "__fish_patroni_check_using_subcommand haproxy-config" -l replica-port -d 'The agent\'s port for reads' -r
complete -c patroni-check -n "__fish_patroni_check_using_subcommand haproxy-config" -l agent-inter -d 'How often HAProxy asks each agent' -r
complete -c patroni-check -n "__fish_patroni_check_using_subcommand haproxy-config" -l server-port -d 'Where clients are sent on each host' -r
complete -c patroni-check -n "__fish_patroni_check_using_subcommand haproxy-config" -l fallback -d 'If no replica is left: none, keep or cut' -r -f -a "none\t'No server is left for reads'
keep\t'The primary takes them, and their sessions stay there'
cut\t'The primary takes them until a replica is back'"
complete -c patroni-check -n "__fish_patroni_check_using_subcommand haproxy-config" -l fallback-maxconn -d 'Most connections to the primary that --fallback makes' -r
complete -c patroni-check -n "__fish_patroni_check_using_subcommand haproxy-config" -l write -d 'Keep this file up to date' -r -F
complete -c patroni-check -n "__fish_patroni_check_using_subcommand haproxy-config" -l check -d 'Command that checks the file' -r
complete -c patroni-check -n "__fish_patroni_check_using_subcommand haproxy-config" -l reload -d 'Command that reloads HAProxy' -r
complete -c patroni-check -n "__fish_patroni_check_using_subcommand haproxy-config" -l leave-after -d 'Keep an absent member this long' -r
complete -c patroni-check -n "__fish_patroni_check_using_subcommand haproxy-config" -l stats -d 'Where the stats page is' -r
complete -c patroni-check -n "__fish_patroni_check_using_subcommand haproxy-config" -l stats-socket -d 'Admin socket' -r
complete -c patroni-check -n "__fish_patroni_check_using_subcommand haproxy-config" -l maxconn -d 'Most connections to a server' -r
complete -c patroni-check -n "__fish_patroni_check_using_subcommand haproxy-config" -l resolvers -d 'Resolve servers\' names while HAProxy runs' -r
complete -c patroni-check -n "__fish_patroni_check_using_subcommand haproxy-config" -l instance -d 'One of several clusters on this host' -r
complete -c patroni-check -n "__fish_patroni_check_using_subcommand haproxy-config" -l patroni -d 'Patroni\'s REST API' -r
complete -c patroni-check -n "__fish_patroni_check_using_subcommand haproxy-config" -l cacert -d 'Trust these authorities for Patroni' -r -F
complete -c patroni-check -n "__fish_patroni_check_using_subcommand haproxy-config" -l cert -d 'Our certificate for Patroni' -r -F
complete -c patroni-check -n "__fish_patroni_check_using_subcommand haproxy-config" -l key -d 'Key of our certificate' -r -F
complete -c patroni-check -n "__fish_patroni_check_using_subcommand haproxy-config" -l hold-file -d 'Answer MAINT or DRAIN while this file exists' -r -F
complete -c patroni-check -n "__fish_patroni_check_using_subcommand haproxy-config" -l http -d 'Use HTTP checks instead of the agent-check'
complete -c patroni-check -n "__fish_patroni_check_using_subcommand haproxy-config" -l section -d 'Print only the backends'
complete -c patroni-check -n "__fish_patroni_check_using_subcommand haproxy-config" -l insecure -d 'Accept any certificate from Patroni'
complete -c patroni-check -n "__fish_patroni_check_using_subcommand haproxy-config" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c patroni-check -n "__fish_patroni_check_using_subcommand is" -l wait -d 'Wait this long for a yes' -r
complete -c patroni-check -n "__fish_patroni_check_using_subcommand is" -l deadline -d 'Wait this long for Patroni\'s answer' -r
complete -c patroni-check -n "__fish_patroni_check_using_subcommand is" -l instance -d 'One of several clusters on this host' -r
complete -c patroni-check -n "__fish_patroni_check_using_subcommand is" -l patroni -d 'Patroni\'s REST API' -r
complete -c patroni-check -n "__fish_patroni_check_using_subcommand is" -l cacert -d 'Trust these authorities for Patroni' -r -F
complete -c patroni-check -n "__fish_patroni_check_using_subcommand is" -l cert -d 'Our certificate for Patroni' -r -F
complete -c patroni-check -n "__fish_patroni_check_using_subcommand is" -l key -d 'Key of our certificate' -r -F
complete -c patroni-check -n "__fish_patroni_check_using_subcommand is" -l hold-file -d 'Answer MAINT or DRAIN while this file exists' -r -F
complete -c patroni-check -n "__fish_patroni_check_using_subcommand is" -l quiet -d 'Print nothing if the answer is yes or no'
complete -c patroni-check -n "__fish_patroni_check_using_subcommand is" -l strict -d 'Exit with 255 instead of 2'
complete -c patroni-check -n "__fish_patroni_check_using_subcommand is" -l insecure -d 'Accept any certificate from Patroni'
complete -c patroni-check -n "__fish_patroni_check_using_subcommand is" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c patroni-check -n "__fish_patroni_check_using_subcommand hold" -l on -d 'Only on this endpoint' -r
complete -c patroni-check -n "__fish_patroni_check_using_subcommand hold" -l for -d 'End by itself after this time, such as 2h' -r
complete -c patroni-check -n "__fish_patroni_check_using_subcommand hold" -l instance -d 'One of several clusters on this host' -r
complete -c patroni-check -n "__fish_patroni_check_using_subcommand hold" -l patroni -d 'Patroni\'s REST API' -r
complete -c patroni-check -n "__fish_patroni_check_using_subcommand hold" -l cacert -d 'Trust these authorities for Patroni' -r -F
complete -c patroni-check -n "__fish_patroni_check_using_subcommand hold" -l cert -d 'Our certificate for Patroni' -r -F
complete -c patroni-check -n "__fish_patroni_check_using_subcommand hold" -l key -d 'Key of our certificate' -r -F
complete -c patroni-check -n "__fish_patroni_check_using_subcommand hold" -l hold-file -d 'Answer MAINT or DRAIN while this file exists' -r -F
complete -c patroni-check -n "__fish_patroni_check_using_subcommand hold" -l drain -d 'Let open sessions stay: DRAIN in place of MAINT'
complete -c patroni-check -n "__fish_patroni_check_using_subcommand hold" -l force -d 'Drain whatever this node serves'
complete -c patroni-check -n "__fish_patroni_check_using_subcommand hold" -l list -d 'List the holds, and change nothing'
complete -c patroni-check -n "__fish_patroni_check_using_subcommand hold" -l insecure -d 'Accept any certificate from Patroni'
complete -c patroni-check -n "__fish_patroni_check_using_subcommand hold" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c patroni-check -n "__fish_patroni_check_using_subcommand instances" -l instance -d 'One of several clusters on this host' -r
complete -c patroni-check -n "__fish_patroni_check_using_subcommand instances" -l patroni -d 'Patroni\'s REST API' -r
complete -c patroni-check -n "__fish_patroni_check_using_subcommand instances" -l cacert -d 'Trust these authorities for Patroni' -r -F
complete -c patroni-check -n "__fish_patroni_check_using_subcommand instances" -l cert -d 'Our certificate for Patroni' -r -F
complete -c patroni-check -n "__fish_patroni_check_using_subcommand instances" -l key -d 'Key of our certificate' -r -F
complete -c patroni-check -n "__fish_patroni_check_using_subcommand instances" -l hold-file -d 'Answer MAINT or DRAIN while this file exists' -r -F
complete -c patroni-check -n "__fish_patroni_check_using_subcommand instances" -l insecure -d 'Accept any certificate from Patroni'
complete -c patroni-check -n "__fish_patroni_check_using_subcommand instances" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c patroni-check -n "__fish_patroni_check_using_subcommand release" -l on -d 'Only the hold on this endpoint' -r
complete -c patroni-check -n "__fish_patroni_check_using_subcommand release" -l instance -d 'One of several clusters on this host' -r
complete -c patroni-check -n "__fish_patroni_check_using_subcommand release" -l patroni -d 'Patroni\'s REST API' -r
complete -c patroni-check -n "__fish_patroni_check_using_subcommand release" -l cacert -d 'Trust these authorities for Patroni' -r -F
complete -c patroni-check -n "__fish_patroni_check_using_subcommand release" -l cert -d 'Our certificate for Patroni' -r -F
complete -c patroni-check -n "__fish_patroni_check_using_subcommand release" -l key -d 'Key of our certificate' -r -F
complete -c patroni-check -n "__fish_patroni_check_using_subcommand release" -l hold-file -d 'Answer MAINT or DRAIN while this file exists' -r -F
complete -c patroni-check -n "__fish_patroni_check_using_subcommand release" -l insecure -d 'Accept any certificate from Patroni'
complete -c patroni-check -n "__fish_patroni_check_using_subcommand release" -s h -l help -d 'Print help (see more with \'--help\')'
