use super::*;

#[test]
fn adding() {
    for (message, title) in [
        ("Add task: Buy groceries", "Buy groceries"),
        ("add a task to buy groceries", "buy groceries"),
        ("Add buy groceries", "buy groceries"),
        ("ADD MILK TO MY LIST!", "MILK"),
        ("please add \"Call mom\" to my to-do list", "Call mom"),
        ("Could you add a new task called Water the plants, please?", "Water the plants"),
        ("Add to my list: eggs", "eggs"),
        ("add milk and eggs to the shopping list", "milk and eggs"),
        ("Remind me to call the dentist at 9:30.", "call the dentist at 9:30"),
        ("remind me about the party", "the party"),
        ("Don’t forget to feed the cat", "feed the cat"),
        ("I need to finish the report", "finish the report"),
        ("I have to pay the rent", "pay the rent"),
        ("Create a task: send invoice", "send invoice"),
        ("create a new reminder to stretch", "stretch"),
        ("new task: read a book", "read a book"),
        ("New todo clean the desk", "clean the desk"),
        ("task: Delete old files", "Delete old files"),
        ("todo:pay rent", "pay rent"),
        ("put butter on my list", "butter"),
        ("write down: return the books", "return the books"),
        ("hey, can you add bread?", "bread"),
        ("add \"who is it?\"", "who is it?"),
        ("Add task: help mom", "help mom"),
        ("add undo the knots", "undo the knots"),
        ("Add task: try again", "try again"),
        ("add task: say thanks to my list", "say thanks to my list"),
        ("Add task: to be or not to be?", "to be or not to be?"),
        ("Add: the task list cleanup", "the task list cleanup"),
        ("add milk please", "milk"),
        ("Add party 🎉, thanks!", "party 🎉"),
        ("Add task: list all suppliers", "list all suppliers"),
        ("add the new keyboard to my list", "the new keyboard"),
        ("Add task: \"Write report\", \"Send invoice\"", "\"Write report\", \"Send invoice\""),
        ("Add task: \"Write report\"", "Write report"),
        ("add \"feed the cat\" and then show me my list", "feed the cat"),
        ("add 'mom's cake' to my list", "mom's cake"),
    ] {
        assert_eq!(understand(message), Intent::Add(Some(title.into())), "{message}");
    }
    assert!(!matches!(understand("I need to know the time"), Intent::Add(_)));
    for message in ["add", "Add a task", "add a new task please", "create a task", "new task"] {
        assert_eq!(understand(message), Intent::Add(None), "{message}");
    }
}

#[test]
fn listing() {
    for (message, filter) in [
        ("What is on my list?", Filter::All),
        ("what's on my list", Filter::All),
        ("Whats on my todo list?", Filter::All),
        ("Show my tasks", Filter::All),
        ("please show me all my tasks", Filter::All),
        ("list", Filter::All),
        ("List tasks", Filter::All),
        ("my tasks?", Filter::All),
        ("tasks", Filter::All),
        ("How many tasks do I have?", Filter::All),
        ("what do I have", Filter::All),
        ("do i have any tasks?", Filter::All),
        ("show me the list again", Filter::All),
        ("Can I see my list?", Filter::All),
        ("I need to see my list now", Filter::All),
        ("check my list", Filter::All),
        ("I need to know what is on my list", Filter::All),
        ("I want to know what's left", Filter::Pending),
        ("do you know what is on my list?", Filter::All),
        ("I have to know which tasks are done", Filter::Completed),
        ("show it to me", Filter::All),
        ("anything on my list?", Filter::All),
        ("what are my todos", Filter::All),
        ("What's left?", Filter::Pending),
        ("what is left to be done", Filter::Pending),
        ("what do I still have to do?", Filter::Pending),
        ("What's next?", Filter::Pending),
        ("show pending tasks", Filter::Pending),
        ("open tasks", Filter::Pending),
        ("what is not done?", Filter::Pending),
        ("which tasks are still open?", Filter::Pending),
        ("What should I do?", Filter::Pending),
        ("what have I done?", Filter::Completed),
        ("show completed tasks", Filter::Completed),
        ("which tasks are done?", Filter::Completed),
        ("What did I finish?", Filter::Completed),
    ] {
        assert_eq!(understand(message), Intent::List(filter), "{message}");
    }
}

#[test]
fn completing() {
    use Reference::{It, Last, Nth, Number};
    let title = |title: &str| Reference::Title(title.into());
    for (message, which) in [
        ("Complete the first one", Nth(1)),
        ("complete task 2", Number(2)),
        ("mark 2 as done", Number(2)),
        ("Mark the last one as completed, please.", Last),
        ("mark it done", It),
        ("mark \"Buy milk\" as finished", title("Buy milk")),
        ("done with milk", title("milk")),
        ("I'm done with the report", title("report")),
        ("I have finished the second one", Nth(2)),
        ("I just finished it", It),
        ("finish #3", Number(3)),
        ("check off milk", title("milk")),
        ("cross milk off my list", title("milk")),
        ("tick the first one off", Nth(1)),
        ("The first one is done", Nth(1)),
        ("milk is done", title("milk")),
        ("I bought the milk", title("milk")),
        ("I've already called mom", title("mom")),
        ("I did it", It),
        ("set task 4 to done", Number(4)),
        ("change task 2 to done", Number(2)),
        ("Done: groceries", title("groceries")),
    ] {
        assert_eq!(understand(message), Intent::Change(Change::Complete, Some(which)), "{message}");
    }
    assert_eq!(understand("complete"), Intent::Change(Change::Complete, None));
    assert_eq!(understand("done!"), Intent::Change(Change::Complete, None));
    for message in ["the first one is done?", "did you complete it?", "bought milk?"] {
        assert!(!matches!(understand(message), Intent::Change(..)), "{message} is a question");
    }
}

#[test]
fn renaming() {
    use Reference::{It, Last, Nth, Number};
    for (message, which, title) in [
        ("Rename task 2 to Buy oat milk", Number(2), "Buy oat milk"),
        ("change the first one to \"Call dad\"", Nth(1), "Call dad"),
        ("Change the title of the last task to Read two books.", Last, "Read two books"),
        ("rename it to Go to the gym", It, "Go to the gym"),
        ("update 3 to buy bread", Number(3), "buy bread"),
        ("rename task 2 to: say please", Number(2), "say please"),
        ("rename 2 to try again, please", Number(2), "try again"),
        ("rename milk to oat milk", Reference::Title("milk".into()), "oat milk"),
        ("edit task 6: wash the bike", Number(6), "wash the bike"),
        ("edit the last one: go to town, please", Last, "go to town, please"),
        ("edit task 6 to: wash", Number(6), "wash"),
        ("rename \"note: go\" to stay", Reference::Title("note: go".into()), "stay"),
        ("replace milk with oat milk", Reference::Title("milk".into()), "oat milk"),
        ("change \"Buy milk\" into Buy cheese", Reference::Title("Buy milk".into()), "Buy cheese"),
    ] {
        assert_eq!(understand(message), Intent::Change(Change::Rename(Some(title.into())), Some(which)), "{message}");
    }
    assert_eq!(understand("rename the first one"), Intent::Change(Change::Rename(None), Some(Nth(1))));
    assert_eq!(understand("edit task 2"), Intent::Change(Change::Rename(None), Some(Number(2))));
}

#[test]
fn deleting() {
    use Reference::{It, Last, Number, Several};
    for (message, which) in [
        ("Delete the last one", Last),
        ("remove milk", Reference::Title("milk".into())),
        ("Remove the milk from my list", Reference::Title("milk".into())),
        ("please delete task 2", Number(2)),
        ("get rid of it", It),
        ("take the last one off my list", Last),
        ("delete everything", Several),
        ("clear my list", Several),
        ("delete tasks 5 and 6", Several),
        ("remove \"Delete old files\"", Reference::Title("Delete old files".into())),
    ] {
        assert_eq!(understand(message), Intent::Change(Change::Delete, Some(which)), "{message}");
    }
    assert_eq!(understand("delete"), Intent::Change(Change::Delete, None));
}

#[test]
fn all_else() {
    for message in ["Hello!", "hi there", "Good morning"] {
        assert_eq!(understand(message), Intent::Greet, "{message}");
    }
    for message in ["Thanks!", "thank you"] {
        assert_eq!(understand(message), Intent::Thank, "{message}");
    }
    for message in ["no", "Never mind.", "cancel"] {
        assert_eq!(understand(message), Intent::Decline, "{message}");
    }
    for message in ["What can you do?", "help", "ok", "please"] {
        assert_eq!(understand(message), Intent::Help, "{message}");
    }
    for message in ["bye", "Goodbye!", "I have to go", "ok, I must leave now"] {
        assert_eq!(understand(message), Intent::Leave, "{message}");
    }
    for message in ["mark 2 as not done", "reopen task 2", "uncheck the first one", "change 2 to not done", "task 2 is not done"] {
        assert_eq!(understand(message), Intent::Reopen, "{message}");
    }
    for message in [
        "",
        "?!",
        "What is the capital of France?",
        "why?",
        "undo",
        "undo that",
        "did you add it?",
        "did you add it",
        "did it work?",
        "have you deleted it?",
        "is it done?",
        "was it saved?",
        "has milk been added?",
        "Tell me a long story about a dragon who lives in a castle far away",
    ] {
        assert_eq!(understand(message), Intent::Unknown, "{message}");
    }
    assert_eq!(understand("the second one"), Intent::Only(Reference::Nth(2)));
    assert_eq!(understand("call mom to say hi"), Intent::Only(Reference::Title("call mom to say hi".into())));
    assert_eq!(understand("2"), Intent::Only(Reference::Number(2)));
    assert_eq!(understand("I mean oat milk"), Intent::Only(Reference::Title("oat milk".into())));
}
