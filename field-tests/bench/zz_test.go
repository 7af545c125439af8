package bench
import ("testing";"context";"time";"os")
func TestZZMeet(t *testing.T){
 for i:=range 6 {
 dir,_:=os.MkdirTemp("/tmp/w6","m-")
 ctx,c:=context.WithTimeout(t.Context(),40*time.Second)
 p,err:=NewPair(ctx,dir,Binary(t),[2]string{"127.0.0.1","127.0.0.1"})
 if err!=nil{t.Fatal(err)}
 s:=time.Now()
 err=p.Up(ctx)
 t.Logf("%d %s %v %v",i,dir,time.Since(s),err)
 for _,b:=range []interface{Log() string}{p.A,p.B}{ raw,_:=os.ReadFile(b.Log()); t.Logf("%s",raw)}
 p.Kill();c()
 }
}
