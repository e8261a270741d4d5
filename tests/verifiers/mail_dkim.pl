#!/usr/bin/perl
# Verifies messages with Mail::DKIM.
#
# usage: mail_dkim.pl (--dns FILE | --resolver IP[:PORT]) (MESSAGE... | -)
#
# FILE is a table of NAME<TAB>TXT lines; with - the names of messages come line by line from standard input, and each
# is answered at once. Prints for each message one line FILE<TAB>pass|fail|temp<TAB>d=<TAB>s=<TAB>reason. A message
# passes if it has signatures and all of them verify; d= and s= of several are joined by commas; temp is a DNS that
# gives no answer now. Old versions of Mail::DKIM know no Ed25519: such a signature fails.
use strict;
use warnings;

eval { require Mail::DKIM::Verifier; require Mail::DKIM::DNS; require Net::DNS; 1 }
  or die "Mail::DKIM is missing: apt-get install libmail-dkim-perl libnet-dns-perl\n";

# Answers from a table, in the place of a Net::DNS::Resolver.
package TableResolver;

sub new {
    my ( $class, $path ) = @_;
    open my $file, '<', $path or die "$path: $!\n";
    my %known;
    while ( my $line = <$file> ) {
        chomp $line;
        my ( $name, $text ) = split /\t/, $line, 2;
        next unless defined $text;
        $name =~ s/\.$//;
        $known{ lc $name } = $text;
    }
    return bless { known => \%known }, $class;
}

sub send {
    my ( $self, $name, $type ) = @_;
    $name =~ s/\.$//;
    my $packet = Net::DNS::Packet->new( $name, $type );
    $packet->header->qr(1);
    my $text = $self->{known}{ lc $name };
    if ( defined $text && uc $type eq 'TXT' ) {
        my @strings = unpack '(A255)*', $text;
        $packet->push( answer => Net::DNS::RR->new( name => $name, type => 'TXT', txtdata => \@strings ) );
    }
    else {
        $packet->header->rcode('NXDOMAIN');
    }
    return $packet;
}

sub errorstring { return 'NOERROR' }

package main;

my ( $source, $where, @messages ) = @ARGV;
die "usage: mail_dkim.pl (--dns FILE | --resolver IP[:PORT]) (MESSAGE... | -)\n"
  unless @messages && $source =~ /^--(dns|resolver)$/;

if ( $source eq '--dns' ) {
    Mail::DKIM::DNS::resolver( TableResolver->new($where) );
}
else {
    my ( $host, $port ) =
        $where =~ /^\[(.+)\]:(\d+)$/  ? ( $1, $2 )
      : $where =~ /^([^:]+):(\d+)$/   ? ( $1, $2 )
      :                                 ( $where, 53 );
    Mail::DKIM::DNS::resolver(
        Net::DNS::Resolver->new(
            config_file => '/dev/null', nameservers => [$host], port => $port, recurse => 1, retrans => 1, retry => 3
        )
    );
}

$| = 1;
if ( "@messages" eq '-' ) {
    while ( my $path = <STDIN> ) {
        chomp $path;
        print join( "\t", $path, verify($path) ), "\n";
    }
}
else {
    print join( "\t", $_, verify($_) ), "\n" for @messages;
}

sub verify {
    my ($path) = @_;
    open my $file, '<:raw', $path or die "$path: $!\n";
    my $message = do { local $/; <$file> };
    $message = '' unless defined $message;
    $message =~ s/\r?\n/\r\n/g;
    my ( @signatures, $fault );
    eval {
        my $dkim = Mail::DKIM::Verifier->new;
        $dkim->PRINT($message);
        $dkim->CLOSE;
        @signatures = $dkim->signatures;
        $fault = 'no DKIM-Signature' unless @signatures;
        for my $index ( 0 .. $#signatures ) {
            my $detail = $signatures[$index]->result_detail;
            next if $signatures[$index]->result eq 'pass' || $fault;
            $fault = sprintf 'signature %d: %s', $index + 1, $detail;
        }
        1;
    } or do { $fault = $@ };
    my $d = join ',', map { $_->domain   // '' } @signatures;
    my $s = join ',', map { $_->selector // '' } @signatures;
    if ( defined $fault ) {
        $fault =~ s/\s+/ /g;
        my $verdict = $fault =~ /DNS error|DNS query timeout/ ? 'temp' : 'fail';
        return ( $verdict, $d, $s, $fault );
    }
    return ( 'pass', $d, $s, scalar(@signatures) . ' verified' );
}
