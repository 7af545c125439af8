package wire
import ("testing";"os";"io";"fmt";"encoding/binary";"outrider/field-tests/pcap";"time")
func dump(path string, w []Window){
 f,_:=os.Open(path); defer f.Close(); r,_:=pcap.NewReader(f)
 for { p,err:=r.Next(); if err==io.EOF {return}; if err!=nil {panic(err)}
  if !hasPort(p.Data,7411){continue}
  for i,x:=range w { if !p.At.Before(x.From)&&p.At.Before(x.To) && i<4 {
   ip:=p.Data[14:]; pl:=0; pr:="udp"; if ip[9]==6 {pr="tcp"; h:=int(ip[0]&15)*4; pl=int(binary.BigEndian.Uint16(ip[2:]))-h-int(ip[h+12]>>4)*4 } else {pl=int(binary.BigEndian.Uint16(ip[2:]))-28}
   fmt.Printf("w%d %8.1fms from .%d %s len %d payload %d\n",i,float64(p.At.Sub(x.From))/float64(time.Millisecond),ip[15],pr,len(p.Data),pl)
  }}}
}
func BenchmarkZZ(b *testing.B){}
