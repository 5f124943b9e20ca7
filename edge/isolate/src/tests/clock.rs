//! The clock stands still while JavaScript runs, and goes on while it waits.

use super::*;

#[test]
fn no_clock_moves_while_javascript_runs() {
    with_worker(|worker| async move {
        let readings = "const read = {
              now: () => Date.now(), date: () => new Date().getTime(), called: () => Date.parse(Date()), constructor: () => +new Date.prototype.constructor(),
              construct: () => +Reflect.construct(Date, []), subclass: () => +new (class extends Date {})(), performance: () => performance.now() + performance.timeOrigin,
              format: () => new Intl.DateTimeFormat('en', { fractionalSecondDigits: 3, timeStyle: undefined, second: 'numeric', minute: 'numeric' }).format(),
              formatter: () => [undefined].map(new Intl.DateTimeFormat('en', { fractionalSecondDigits: 3, second: 'numeric' }).format).join(),
              parts: () => JSON.stringify(new Intl.DateTimeFormat('en', { fractionalSecondDigits: 3, second: 'numeric' }).formatToParts()),
              file: () => new File([], 'x').lastModified, event: () => new Event('x').timeStamp,
              instant: () => globalThis.Temporal?.Now.instant().epochMilliseconds, zoned: () => globalThis.Temporal?.Now.zonedDateTimeISO().epochMilliseconds,
              plain: () => globalThis.Temporal && String(Temporal.Now.plainDateTimeISO()) + Temporal.Now.plainTimeISO(),
            };
            const all = () => Object.fromEntries(Object.entries(read).map(([name, get]) => [name, get()]));
            const spin = () => { let n = 0; for (let i = 0; i < 3e6; i++) n += Math.sqrt(i); return n };";
        let body = format!(
            "{readings} const before = all(); for (let i = 0; i < 8; i++) spin();
             const after = all(); const moved = Object.keys(read).filter((name) => before[name] !== after[name]);
             await scheduler.wait(15); const later = all(); const ahead = later.now - before.now;
             const stuck = ['now', 'date', 'called', 'performance', 'format', 'parts', 'file'].filter((name) => later[name] === before[name] && (name !== 'called' || ahead > 1000));
             return new Response(JSON.stringify([moved, stuck, ahead >= 15, Math.abs(later.performance - later.now) <= 2]))"
        );
        let program = handler_with(&body, &[("cpu_ms", 20_000)]);
        let answer = ask(&worker, &program, request("GET", "/", "")).await.unwrap();
        assert_eq!(answer.body.unwrap(), r#"[[],[],true,true]"#);
    });
}

#[test]
fn the_clock_tells_the_time_of_each_request_and_each_thing_waited_for() {
    with_worker(|worker| async move {
        let program = program_of(
            &[(
                "index.js",
                "const top = Date.now(); export default { async fetch(request) {
                   const times = [top, Date.now()];
                   await fetch('http://o/'); times.push(Date.now());
                   await scheduler.wait(10); times.push(Date.now());
                   await new Promise((resolve) => setTimeout(resolve, 10)); times.push(Date.now(), performance.timeOrigin);
                   return new Response(JSON.stringify(times)) } };",
            )],
            &[("cpu_ms", 20_000), ("startup_ms", 5_000)],
        );
        let mut last = 0;
        for _ in 0..2 {
            let wall =
                |time: std::time::SystemTime| time.duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64;
            let before = wall(std::time::SystemTime::now());
            let text = ask(&worker, &program, request("GET", "/", "")).await.unwrap().body.unwrap();
            let after = wall(std::time::SystemTime::now());
            let times: Vec<i64> = text.trim_matches(['[', ']']).split(',').map(|time| time.parse().unwrap()).collect();
            let [top, begun, fetched, waited, timed, origin] = times[..] else { panic!("{text}") };
            assert!(before - 1 <= begun && timed <= after + 1, "{before} {times:?} {after}");
            assert!(top <= begun && begun <= fetched && fetched + 9 <= waited && waited + 9 <= timed, "{times:?}");
            assert!(last < begun, "a request begins after the last has ended: {last} {times:?}");
            assert!(origin <= top && top - origin < 5_000, "{times:?}");
            last = timed - 1;
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    });
}

#[test]
fn dates_are_what_the_standard_says_otherwise() {
    with_worker(|worker| async move {
        let body = "const own = Object.getOwnPropertyDescriptors(Date);
            class Mine extends Date { twice() { return this * 2 } }
            const mine = new Mine(21); const foreign = Reflect.construct(Date, [5], Object);
            const checks = [
              Date.length === 7, Date.name === 'Date', typeof Date() === 'string', Date('x', 1) === Date(), new Date(2020, 1).getMonth() === 1,
              +new Date(2020, 0, 2, 3, 4, 5, 6) === Date.UTC(2020, 0, 2, 3, 4, 5, 6) + new Date(2020, 0, 2).getTimezoneOffset() * 6e4,
              +new Date('2020-01-01') === Date.parse('2020-01-01'), +new Date(new Date(7)) === 7, isNaN(new Date(undefined)), isNaN(new Date(NaN)), +new Date(null) === 0,
              new Date() instanceof Date, new Date().constructor === Date, Date.prototype.constructor === Date, Object.getPrototypeOf(Date) === Function.prototype,
              mine instanceof Mine, mine instanceof Date, mine.twice() === 42, mine.constructor === Mine,
              Object.getPrototypeOf(foreign) === Object.prototype, Date.prototype.getTime.call(foreign) === 5,
              structuredClone(new Date(3)) instanceof Date, Object.prototype.toString.call(new Date()) === '[object Date]',
              JSON.stringify(new Date(0)) === '\"1970-01-01T00:00:00.000Z\"',
              !own.prototype.writable && !own.prototype.enumerable && !own.prototype.configurable, own.now.writable && !own.now.enumerable && own.now.configurable,
              Date.now.length === 0 && Date.now.name === 'now' && !('prototype' in Date.now), Date.UTC.length === 7, Reflect.ownKeys(Date).sort().join() === 'UTC,length,name,now,parse,prototype',
              (() => { const f = new Intl.DateTimeFormat('en'); return f.format === f.format && f.format.length === 1 && f.format.name === '' && f.format(0) === f.format(new Date(0)) })(),
              (() => { try { Intl.DateTimeFormat.prototype.format; return false } catch (e) { return e instanceof TypeError } })(),
              (() => { try { new Intl.DateTimeFormat().format(NaN); return false } catch (e) { return e instanceof RangeError } })(),
              (() => { try { new Date(Symbol()); return false } catch (e) { return e instanceof TypeError } })(),
              Number.isInteger(Date.now()), Number.isInteger(performance.now()), Number.isInteger(performance.timeOrigin),
            ];
            return new Response(checks.map((right, i) => right ? '' : i).filter(String).join() || 'right')";
        let answer = ask(&worker, &handler_with(body, &[("cpu_ms", 20_000)]), request("GET", "/", "")).await.unwrap();
        assert_eq!(answer.body.unwrap(), "right");
    });
}
